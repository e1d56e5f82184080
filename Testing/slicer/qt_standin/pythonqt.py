"""PySide6 made to answer as PythonQt does, where code that runs under the one would fail under the other.

- Every Qt property is an attribute, and calling it fails: `button.text`, `box.checked`, `table.rowCount`.
- An attribute that does not exist cannot be set.
- `widget.connect("clicked(bool)", function)`: the signal is named by its C++ signature; with a wrong one, False is
  returned. The function gets as many arguments as it takes, at most those of the signature.
- File dialogs return the chosen paths alone.

What a slot raises is printed, as in Slicer, and kept in `slotErrors`, so that a test can fail on it.
"""

from __future__ import annotations

import ctypes
import inspect
import sys
import traceback
from contextlib import suppress
from types import MethodType

from PySide6 import QtCore, QtGui, QtWidgets

slotErrors: list[str] = []
loading = False
"""While a .ui file is loaded, PySide6 sets the children of a form as its attributes."""

_METHODS = {
    "sizeHint", "minimumSizeHint",  # Qt calls these
    "singleShot",  # of QTimer: also a static method, which PythonQt prefers
}  # fmt: skip
"""Names of properties that stay methods."""


def _propertyAttribute(name: str) -> property:
    return property(lambda self: self.property(name), lambda self, value: self.setProperty(name, value))


def _setAttribute(self, name: str, value) -> None:
    attribute = getattr(type(self), name, None)
    if isinstance(attribute, QtCore.Property):
        self.setProperty(name, value)
    elif hasattr(attribute, "__set__"):
        attribute.__set__(self, value)
    elif loading or attribute is not None or name.startswith("_"):  # a signal that PySide6 binds; our own widgets
        self.__dict__[name] = value
    else:
        what = f"'{name}' does not exist on {type(self).__name__}"
        raise AttributeError(f"{what} and creating new attributes on C++ objects is not allowed")


def _findSignal(sender, signature: str):
    """The signal of a C++ signature and the number of its arguments; None where there is no such signal."""
    name, _, arguments = signature.rstrip(")").partition("(")
    normalized = QtCore.QMetaObject.normalizedSignature(signature).data().decode()
    if sender.metaObject().indexOfSignal(normalized) < 0 and signature not in getattr(sender, "SIGNALS", ()):
        return None
    signal = getattr(sender, name)
    with suppress(IndexError):  # of several signals of this name, that with these arguments
        signal = signal[arguments] if arguments else signal
    return signal, arguments.count(",") + bool(arguments)


def _guarded(function, count: int):
    """Calls `function` with as many of the first `count` arguments as it takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
        if not any(parameter.kind == parameter.VAR_POSITIONAL for parameter in parameters):
            positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            count = min(count, sum(parameter.kind in positional for parameter in parameters))
    except ValueError:  # a function of C++ tells no signature
        pass

    def slot(*arguments):
        try:
            function(*arguments[:count])
        except Exception:
            traceback.print_exc()
            slotErrors.append(traceback.format_exc())

    return slot


def _connect(self, signature: str, function) -> bool:
    found = _findSignal(self, signature)
    if found is None:
        print(f"QObject::connect() signal '{signature}' does not exist on {type(self).__name__}")
        return False
    signal, count = found
    slot = _guarded(function, count)
    signal.connect(slot)
    self.__dict__.setdefault("_slots", []).append((signature, function, slot))
    return True


def _disconnect(self, signature: str, function) -> bool:
    for entry in self.__dict__.get("_slots", []):
        if entry[0] == signature and entry[1] == function:
            _findSignal(self, signature)[0].disconnect(entry[2])
            self.__dict__["_slots"].remove(entry)
            return True
    return False


def _getAttribute(original):
    """PySide6 looks its own `connect` up before that of the class."""
    own = {"connect": _connect, "disconnect": _disconnect}

    def getAttribute(self, name: str):
        return MethodType(own[name], self) if name in own else original(self, name)

    return getAttribute


def _pathsOnly(function):
    return lambda *arguments, **named: function(*arguments, **named)[0]


def _classes(module):
    for name in dir(module):
        found = getattr(module, name)
        if isinstance(found, type) and issubclass(found, QtCore.QObject):
            yield found


def imitate() -> None:
    """Changes the classes of PySide6, once for the process."""
    for module in (QtCore, QtGui, QtWidgets):
        for qtClass in _classes(module):
            meta = qtClass.staticMetaObject
            for index in range(meta.propertyOffset(), meta.propertyCount()):
                name = meta.property(index).name()
                if name not in _METHODS:
                    setattr(qtClass, name, _propertyAttribute(name))
            qtClass.__setattr__ = _setAttribute
    QtCore.QObject.name = _propertyAttribute("objectName")
    QtCore.QObject.__getattribute__ = _getAttribute(QtCore.QObject.__getattribute__)
    for name in ("getOpenFileName", "getOpenFileNames", "getSaveFileName"):
        setattr(QtWidgets.QFileDialog, name, staticmethod(_pathsOnly(getattr(QtWidgets.QFileDialog, name))))


def _immortalize() -> None:
    """PySide6 6.12 counts on None, True and False living forever, as they do since Python 3.12: it drops references to
    them that it does not hold."""
    if sys.version_info < (3, 12):
        for value in (None, True, False):
            ctypes.c_ssize_t.from_address(id(value)).value += 1 << 40


imitate()
_immortalize()
