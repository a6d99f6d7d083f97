"""A queue that is fair to clients and has classes of work."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from posewire.errors import Overloaded
from posewire.types import Priority

T = TypeVar("T")

# At least one of so many items in a row is of the bulk class, while both classes wait.
_BULK_EVERY = 4

# Items of one client before the next client is served. Most images have fewer people and are served at once, in the order of
# their arrival; a crowd is interrupted after so many.
QUANTUM = 4


class ClientQueue(Generic[T]):
    """The items of one client."""

    __slots__ = ("items", "priority", "served")

    def __init__(self, items: Iterable[T], priority: Priority) -> None:
        self.items = deque(items)
        self.priority = priority
        self.served = 0  # items in its current quantum


class FairQueue(Generic[T]):
    """Round robin over clients, a quantum of items each. Live streams precede bulk work, which keeps a minimum share.

    Args:
        limit: items that may wait.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._clients: dict[Priority, OrderedDict[ClientQueue[T], None]] = {priority: OrderedDict() for priority in Priority}
        self._size = 0
        self._since_bulk = 0  # items of streams in a row while bulk waited

    def __len__(self) -> int:
        """The number of waiting items."""
        return self._size

    def __iter__(self) -> Iterator[T]:
        """Yield all waiting items, in no particular order."""
        return (item for clients in self._clients.values() for client in clients for item in client.items)

    def push(self, items: Iterable[T], priority: Priority) -> ClientQueue[T]:
        """Add all items of one client, at least one.

        Raises:
            Overloaded: not all of them fit; none was added.
        """
        client = ClientQueue(items, priority)
        if self._size + len(client.items) > self._limit:
            raise Overloaded("the model's queue is full; try again", limit="queue", retry_after_s=1)
        self._clients[priority][client] = None
        self._size += len(client.items)
        return client

    def leave(self, client: ClientQueue[T]) -> None:
        """Remove the waiting items of a client."""
        self._size -= len(client.items)
        client.items.clear()
        self._clients[client.priority].pop(client, None)

    def pop(self) -> T:
        """Remove and return the next item.

        Raises:
            IndexError: the queue is empty.
        """
        clients = self._next_class()
        client = next(iter(clients), None)
        if client is None:
            raise IndexError("the queue is empty")
        item = client.items.popleft()
        self._size -= 1
        client.served += 1
        if not client.items:
            del clients[client]
        elif client.served == QUANTUM:
            client.served = 0
            clients.move_to_end(client)
        return item

    def _next_class(self) -> OrderedDict[ClientQueue[T], None]:
        streams, bulk = self._clients[Priority.STREAM], self._clients[Priority.BULK]
        if streams and (not bulk or self._since_bulk < _BULK_EVERY - 1):
            self._since_bulk = self._since_bulk + 1 if bulk else 0
            return streams
        self._since_bulk = 0
        return bulk
