"""A queue that is fair to clients and knows classes of work."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from posewire.types import Priority

T = TypeVar("T")

# Of so many items in a row, while both classes wait, at least one is bulk's.
_BULK_EVERY = 4

# Items of one client before the next client's. Most images show fewer people and are served whole, in the order of their
# arrival. A crowd gives way after so many.
QUANTUM = 4


class ClientQueue(Generic[T]):
    """The items of one client."""

    __slots__ = ("items", "priority", "served")

    def __init__(self, items: Iterable[T], priority: Priority) -> None:
        self.items = deque(items)
        self.priority = priority
        self.served = 0  # items of its present quantum


class FairQueue(Generic[T]):
    """Clients take turns, a quantum of items each. Live streams go ahead of bulk work, which keeps a share."""

    def __init__(self) -> None:
        self._clients: dict[Priority, OrderedDict[ClientQueue[T], None]] = {priority: OrderedDict() for priority in Priority}
        self._size = 0
        self._since_bulk = 0  # items of streams, one after the other, for which bulk had to wait

    def __len__(self) -> int:
        """Items that wait."""
        return self._size

    def __iter__(self) -> Iterator[T]:
        """All that waits, in no particular order."""
        return (item for clients in self._clients.values() for client in clients for item in client.items)

    def push(self, items: Iterable[T], priority: Priority) -> ClientQueue[T]:
        """Add all items of one client, at least one."""
        client = ClientQueue(items, priority)
        self._clients[priority][client] = None
        self._size += len(client.items)
        return client

    def leave(self, client: ClientQueue[T]) -> None:
        """Remove what a client still has waiting."""
        self._size -= len(client.items)
        client.items.clear()
        self._clients[client.priority].pop(client, None)

    def pop(self) -> T:
        """The next item.

        Raises:
            IndexError: nothing waits.
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
