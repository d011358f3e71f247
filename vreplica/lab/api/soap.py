"""SOAP in both directions, over pyVmomi's type registry; knows no vSphere method.

    POST body -> parse() -> Request(method, this, arguments) -> ... -> result() / fault() -> XML

The parameters of a method are the same kind of description as the properties of a data object,
so a request is parsed as a data object of a class made up for the method: arrays, enums,
xsi:type subclasses, binary and type checks all come with pyVmomi's own deserializer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from io import StringIO
from typing import Any, Protocol
from xml.parsers.expat import ExpatError, ParserCreate

from vreplica.lab.api.vmodl import (
    F_LINK,
    F_OPTIONAL,
    NAMESPACE,
    DataObject,
    ManagedObject,
    fault,
    neutral,
    soap,
    support,
    vmodl,
    wsdl_name,
)

_BODY = "http://schemas.xmlsoap.org/soap/envelope/ Body"
_BASE = support.BASE_VERSION
_NSMAP = {**soap.SOAP_NSMAP, NAMESPACE: ""}
_HEAD = f"{soap.XML_HEADER}\n{soap.SOAP_START}"
_TAIL = soap.SOAP_END


class Context(Protocol):
    """Who asks: decides what a name refers to, and which methods are open without login."""

    def admit(self, method: str) -> None:
        """Called before any argument is looked at. Raises NotAuthenticated."""

    def lookup(self, moid: str, kind: Any) -> Any:
        """The object with this id. Raises ManagedObjectNotFound."""


@dataclass(frozen=True, slots=True)
class Method:
    """What the dispatcher needs to know of a method."""

    name: str
    owner: Any
    params: tuple[Any, ...]
    result: Any
    flags: int
    is_task: bool
    privilege: str | None
    request: Any


@dataclass(frozen=True, slots=True)
class Request:
    method: Method
    this: Any
    arguments: list[Any]


_METHODS: dict[tuple[str, str], Method] = {}


def method_of(namespace: str, name: str) -> Method:
    """Raises KeyError where vim25 has no such method."""
    key = (namespace, name)
    if key not in _METHODS:
        this = support.Object(name="_this", type=ManagedObject, version=_BASE, flags=0)
        if name == "Fetch":
            # How pyVmomi reads one attribute; not in the registry.
            prop = support.Object(name="prop", type=str, version=_BASE, flags=0)
            params, owner, result, flags, task, privilege = (prop,), ManagedObject, object, 4, 0, ""
        else:
            info = support.GetWsdlMethod(namespace, name).info
            params, owner, result, flags = info.params, info.type, info.result, info.resultFlags
            task, privilege = info.isTask, info.privId
        fields = (this, *params)
        request = type(
            name,
            (DataObject,),
            {
                "_wsdlName": name,
                "_version": _BASE,
                "_propList": list(fields),
                "_propInfo": {f.name: f for f in fields},
            },
        )
        _METHODS[key] = Method(
            name, owner, tuple(params), result, flags, bool(task), privilege, request
        )
    return _METHODS[key]


class _Reference(ManagedObject):
    """Stands on the parser's stack for a reference, and becomes the server's own object."""

    kind: Any = ManagedObject

    def __new__(cls, moid: str, stub: Any, guid: str | None) -> Any:
        return stub.context.lookup(moid, cls.kind)


_REFERENCES: dict[Any, Any] = {}


@dataclass
class _Stub:
    """What pyVmomi's deserializer calls the stub: here, the way to the objects."""

    context: Context
    version: Any = None

    def SupportServerGUIDs(self) -> bool:
        return True


class Deserializer(soap.SoapDeserializer):
    """Resolves references, also deep inside specs, to the objects of the server."""

    def __init__(self, context: Any) -> None:
        super().__init__(_Stub(context))

    def StartElementHandler(self, tag: str, attr: dict[str, str]) -> None:
        super().StartElementHandler(tag, attr)
        top = self.stack[-1]
        if isinstance(top, type) and issubclass(top, ManagedObject):
            if top not in _REFERENCES:
                _REFERENCES[top] = type("Reference", (_Reference,), {"kind": top})
            self.stack[-1] = _REFERENCES[top]


class _Parser(soap.ExpatDeserializerNSHandlers):
    """Finds the method element in the body and lets the deserializer take it as an object."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context
        self.path: list[str] = []
        self.method: Method | None = None
        self.deserializer = Deserializer(context)

    def parse(self, body: bytes) -> Request:
        self.parser = ParserCreate(namespace_separator=soap.NS_SEP)
        self.parser.buffer_text = True
        soap.SetHandlers(self.parser, soap.GetHandlers(self))
        self.parser.Parse(body, True)
        arguments = self.deserializer.GetResult()
        if self.method is None or arguments is None:
            raise fault(vmodl.fault.InvalidRequest, "The request has no method")
        values = [getattr(arguments, p.name) for p in self.method.params]
        for param, value in zip(self.method.params, values, strict=True):
            if value is None and not param.flags & F_OPTIONAL:
                raise fault(
                    vmodl.fault.InvalidRequest,
                    f'Required parameter "{param.name}" of {self.method.name} is missing',
                )
        this = arguments._this
        if not isinstance(this, self.method.owner):
            raise fault(
                vmodl.fault.MethodNotFound,
                f"{wsdl_name(type(this))} has no method {self.method.name}",
                receiver=this,
                method=self.method.name,
            )
        return Request(self.method, this, values)

    def StartElementHandler(self, tag: str, attr: dict[str, str]) -> None:
        if self.path and self.path[-1] == _BODY and self.method is None:
            namespace, _, name = tag.rpartition(soap.NS_SEP)
            try:
                self.method = method_of(namespace, name)
            except KeyError:
                raise fault(
                    vmodl.fault.InvalidRequest, f"Unable to resolve WSDL method name {name}"
                ) from None
            self.context.admit(name)
            self.deserializer.Deserialize(self.parser, self.method.request, False, self.nsMap)
            self.deserializer.StartElementHandler(tag, attr)
        else:
            self.path.append(tag)

    def EndElementHandler(self, tag: str) -> None:
        self.path.pop()

    def CharacterDataHandler(self, data: str) -> None:
        """Nothing outside the method element is text that counts."""


def parse(body: bytes, context: Context) -> Request:
    """Raises vmodl faults; InvalidRequest where the XML or a type in it is wrong."""
    try:
        return _Parser(context).parse(body)
    except (ExpatError, TypeError, AttributeError, ValueError, KeyError) as error:
        raise fault(vmodl.fault.InvalidRequest, f"The request cannot be read: {error}") from error


class Raw(str):
    """XML of an element's inside that was made before, in the same version."""

    __slots__ = ()


@cache
def _fields(kind: Any, version: Any) -> list[tuple[str, Any, bool]]:
    """(name, description, whether its element needs nothing but the text) of a data object."""
    return [
        (p.name, p, p.type is not object and support.GetWsdlNamespace(p.version) == NAMESPACE)
        for p in kind._GetPropertyList()
        if support.IsChildVersion(version, p.version)
    ]


class Serializer(soap.SoapSerializer):
    """pyVmomi's, with what a server needs on top."""

    def __init__(self, writer: StringIO, version: Any) -> None:
        super().__init__(writer, version, _NSMAP)
        self.outermostAttrs = ""

    def _QName(self, typ: Any, defNS: str) -> tuple[str, str]:
        if typ is ManagedObject:
            # pyVmomi takes either; govmomi finds nothing unless it is spelled like this.
            return "", "ManagedObjectReference"
        return super()._QName(typ, defNS)  # type: ignore[no-any-return]

    def _SerializeDataObject(self, val: Any, info: Any, attr: str, defNS: str) -> None:
        """The same elements, sooner: most fields are unset, and most others plain text."""
        kind = support.GetCompatibleType(support.Type(val), self.version)
        if info.flags & F_LINK or kind is vmodl.LocalizedMethodFault or defNS != NAMESPACE:
            super()._SerializeDataObject(val, info, attr, defNS)
            return
        if kind != info.type:
            attribute, name = self._QName(kind, defNS)
            attr += f'{attribute} {self.xsiPrefix}type="{name}"'
        write = self.writer.write
        write(f"<{info.name}{attr}>")
        own: Any = type(val)
        for name, field, plain in _fields(own, self.version):
            value = getattr(val, name)
            if value is None and field.flags & F_OPTIONAL:
                continue
            if plain and isinstance(value, str):
                # `str`: the enumeration of file operations has one called `replace`.
                write(f"<{name}>{soap.XmlEscape(str(value))}</{name}>")
            elif plain and isinstance(value, bool):
                write(f"<{name}>{'true' if value else 'false'}</{name}>")
            elif plain and isinstance(value, int):
                write(f"<{name}>{int(value)}</{name}>")
            else:
                self._Serialize(value, field, defNS)
        write(f"</{info.name}>")

    def _Serialize(self, val: Any, info: Any, defNS: str) -> None:
        if type(val) is Raw:
            self.writer.write(val)
            return
        if val is None or (isinstance(val, list) and not val and info.type is not object):
            if info.flags & F_OPTIONAL:
                return
            val = neutral(info.type)
            if val is None:
                return
        super()._Serialize(val, info, defNS)


def to_xml(value: Any, info: Any, version: Any) -> str:
    writer = StringIO()
    Serializer(writer, version).Serialize(value, info)
    return writer.getvalue()


def result(method: Method, value: Any, version: Any) -> bytes:
    name = method.name
    out = [_HEAD, f'<{name}Response xmlns="{NAMESPACE}">']
    if value is not None:
        info = support.Object(name="returnval", type=method.result, version=_BASE, flags=F_OPTIONAL)
        out.append(to_xml(value, info, version))
    out += [f"</{name}Response>", _TAIL]
    return "".join(out).encode()


def fault_xml(error: Any, version: Any) -> bytes:
    """The body that goes with HTTP 500. `detail` must be in no namespace: pyVmomi compares it."""
    kind = support.GetCompatibleType(type(error), version)
    name = wsdl_name(kind)
    message, error.msg = error.msg or name, None
    writer = StringIO()
    info = support.Object(name=f"{name}Fault", type=object, version=_BASE, flags=0)
    try:
        Serializer(writer, version)._SerializeDataObject(
            error, info, f' xmlns="{NAMESPACE}"', NAMESPACE
        )
    finally:
        error.msg = message
    return "".join(
        [
            _HEAD,
            "<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>",
            soap.XmlEscape(str(message)),
            "</faultstring><detail>",
            writer.getvalue(),
            "</detail></soapenv:Fault>",
            _TAIL,
        ]
    ).encode()
