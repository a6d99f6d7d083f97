"""Reads the pickles that torch writes, without `pickle`: a machine that knows data, and in which nothing can be called.

A `find_class` of one's own does not tame `pickle.Unpickler`: a dict key of nested tuples overflows the C stack when it is
hashed (a crash, not an exception), LONG_BINPUT allocates a memo of any length, BUILD sets attributes of whatever
`find_class` gave, EXT looks past it. Here a global stays a name, and whatever is made with it is a stand-in: `meta` and
`optimizer` may hold anything, and nothing of it is looked at.
"""

import pickle
from collections.abc import Callable
from typing import Any, Final

from posewire.registry.weights.tensors import MalformedError, Storage, quoted
from posewire.tools.compiler.litehrnet.opcodes import BYTES, INTEGERS, NUMBERS, TEXTS, OpcodeReader
from posewire.tools.compiler.litehrnet.standins import Global, Opaque, called, is_name, persistent

# The state dict of Lite-HRNet-18 takes 44,000. A step costs at most some 250 bytes, beside what it takes from the file.
_MOST_STEPS: Final = 1_000_000
_LITERALS: Final = NUMBERS.keys() | TEXTS.keys() | BYTES.keys() | INTEGERS.keys()
_CONSTANTS: Final[dict[bytes, object]] = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False, pickle.EMPTY_TUPLE: ()}
_MAKERS: Final[dict[bytes, Callable[[], object]]] = {
    pickle.EMPTY_DICT: dict,
    pickle.EMPTY_LIST: list,
    pickle.EMPTY_SET: lambda: Opaque("a set"),
}
_TUPLES: Final = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}


class PickleReader:
    """Reads pickles that follow one another in a buffer."""

    def __init__(self, data: bytes) -> None:
        self.storages: dict[str, Storage] = {}  # by key: all that the pickles mention
        self._opcodes = OpcodeReader(data)
        self._steps = 0
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # what was on the stack at each MARK
        self._memo: dict[int, object] = {}

    @property
    def at(self) -> int:
        """The first byte after the last pickle."""
        return self._opcodes.at

    def load(self) -> object:
        """The next pickle: dicts, lists, tuples, scalars, `Tensor` and `Opaque`. A dict's key is a str or an Opaque.

        Raises:
            MalformedError: the pickle is damaged, far too long, or uses what torch does not write.
        """
        self._stack, self._below, self._memo = [], [], {}
        try:
            while (step := self._opcodes.next())[0] != pickle.STOP:
                self._steps += 1
                if self._steps > _MOST_STEPS:
                    raise MalformedError(f"the pickle takes more than {_MOST_STEPS} steps")
                self._step(*step)
            return self._stack.pop()
        except (IndexError, KeyError):  # of the stack, of the memo
            raise self._damaged("it uses what it has not made") from None

    def _damaged(self, why: str) -> MalformedError:
        return MalformedError(f"the pickle is damaged, or not torch's: {why}, before byte {self.at}")

    def _step(self, code: bytes, argument: Any) -> None:
        if code in _LITERALS:
            self._stack.append(argument)
        elif code in _CONSTANTS:
            self._stack.append(_CONSTANTS[code])
        elif code in _MAKERS:
            self._stack.append(_MAKERS[code]())
        elif code in _TUPLES:
            items = [self._stack.pop() for _ in range(_TUPLES[code])]
            self._stack.append(tuple(reversed(items)))
        elif code in _ACTIONS:
            _ACTIONS[code](self, argument)
        else:
            raise self._damaged(f"opcode {code!r}")

    def _marked(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _mark(self, _: None) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _skip(self, _: object) -> None:
        """PROTO and FRAME say nothing that matters here."""

    def _pop(self, _: None) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._marked()

    def _pop_marked(self, _: None) -> None:
        self._marked()

    def _put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def _duplicate(self, _: None) -> None:
        self._stack.append(self._stack[-1])

    def _make_tuple(self, _: None) -> None:
        items = self._marked()
        self._stack.append(tuple(items))

    def _make_list(self, _: None) -> None:
        items = self._marked()
        self._stack.append(items)

    def _make_dict(self, _: None) -> None:
        items = self._marked()
        self._stack.append({})
        self._set(items)

    def _make_set(self, _: None) -> None:
        self._marked()
        self._stack.append(Opaque("a set"))

    def _append_one(self, _: None) -> None:
        self._append([self._stack.pop()])

    def _append_marked(self, _: None) -> None:
        self._append(self._marked())

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise self._damaged("items for what is no list")

    def _set_one(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _set_marked(self, _: None) -> None:
        self._set(self._marked())

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict) and len(items) % 2 == 0:
            for key, value in zip(items[::2], items[1::2], strict=True):
                # To hash what a file made up may take for ever, or overflow the stack; only names are needed.
                target[key if is_name(key) else Opaque("a key that is no name")] = value
        elif not isinstance(target, Opaque):
            raise self._damaged("items for what is no dict")

    def _global(self, name: str) -> None:
        self._stack.append(Global(name))

    def _stack_global(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not (is_name(module) and is_name(name)):
            raise self._damaged("a global without a name")
        self._stack.append(Global(f"{module}.{name}"))

    def _persistent(self, _: None) -> None:
        found = persistent(self._stack.pop())
        if isinstance(found, Storage) and self.storages.setdefault(found.key, found) != found:
            raise MalformedError(f"storage {quoted(found.key)} is given two sizes or types")
        self._stack.append(found)

    def _call(self, _: None) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(called(function, arguments))

    def _call_with_keywords(self, _: None) -> None:
        self._stack.pop()
        self._call(None)

    def _call_marked(self, _: None) -> None:
        function, *arguments = self._marked() or [None]
        self._stack.append(called(function, tuple(arguments)))

    def _build(self, _: None) -> None:
        self._stack.pop()  # the state of an object: none here has any


_ACTIONS: Final[dict[bytes, Callable[[PickleReader, Any], None]]] = {
    pickle.PROTO: PickleReader._skip,
    pickle.FRAME: PickleReader._skip,
    pickle.MARK: PickleReader._mark,
    pickle.POP: PickleReader._pop,
    pickle.POP_MARK: PickleReader._pop_marked,
    pickle.DUP: PickleReader._duplicate,
    pickle.BINPUT: PickleReader._put,
    pickle.LONG_BINPUT: PickleReader._put,
    pickle.MEMOIZE: PickleReader._memoize,
    pickle.BINGET: PickleReader._get,
    pickle.LONG_BINGET: PickleReader._get,
    pickle.TUPLE: PickleReader._make_tuple,
    pickle.LIST: PickleReader._make_list,
    pickle.DICT: PickleReader._make_dict,
    pickle.FROZENSET: PickleReader._make_set,
    pickle.APPEND: PickleReader._append_one,
    pickle.APPENDS: PickleReader._append_marked,
    pickle.ADDITEMS: PickleReader._append_marked,
    pickle.SETITEM: PickleReader._set_one,
    pickle.SETITEMS: PickleReader._set_marked,
    pickle.GLOBAL: PickleReader._global,
    pickle.STACK_GLOBAL: PickleReader._stack_global,
    pickle.BINPERSID: PickleReader._persistent,
    pickle.REDUCE: PickleReader._call,
    pickle.NEWOBJ: PickleReader._call,
    pickle.NEWOBJ_EX: PickleReader._call_with_keywords,
    pickle.OBJ: PickleReader._call_marked,
    pickle.BUILD: PickleReader._build,
}
