"""Parses SOAP requests and writes SOAP answers, with pyVmomi's type registry.

    POST body -> parse() -> Request(method, this, arguments)
    value     -> result_xml() -> body            fault -> fault_xml() -> body of HTTP 500

It knows no vSphere method by name. pyVmomi describes the parameters of a method as it describes
the properties of a data object, so a request is parsed as a data object of a class that is made
for the method. Arrays, enums, xsi:type subclasses, binary values and type checks then come with
pyVmomi's own deserializer.
"""

from __future__ import annotations

from collections.abc import Callable
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
    neutral_value,
    soap,
    support,
    vim,
    vmodl,
    wsdl_name,
)

_BODY = "http://schemas.xmlsoap.org/soap/envelope/ Body"
_BASE = support.BASE_VERSION
_NSMAP = {**soap.SOAP_NSMAP, NAMESPACE: ""}
_HEAD = f"{soap.XML_HEADER}\n{soap.SOAP_START}"
_TAIL = soap.SOAP_END


class RequestContext(Protocol):
    """The caller: resolves references, and knows whether it is logged in."""

    def require_login(self, method: str) -> None:
        """Called before the arguments are parsed. Raises NotAuthenticated."""

    def lookup(self, moid: str, kind: Any) -> Any:
        """The object with this id. Raises ManagedObjectNotFound."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the API, as the dispatcher needs it. `request` is the class it is parsed as."""

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
    """A call: the method, the object that it is called on, and its arguments."""

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
            # pyVmomi reads an attribute by this call, which its registry does not have.
            prop = support.Object(name="prop", type=str, version=_BASE, flags=0)
            params, owner, result, flags = (prop,), ManagedObject, object, F_OPTIONAL
            task, privilege = 0, ""
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
    """Makes the parser put the server's own object where a reference was."""

    kind: Any = ManagedObject

    def __new__(cls, moid: str, stub: Any, guid: str | None) -> Any:
        return stub.context.lookup(moid, cls.kind)


_REFERENCES: dict[Any, Any] = {}


@dataclass
class _Stub:
    """Takes the place of pyVmomi's stub: the deserializer passes it on with each reference."""

    context: RequestContext
    version: Any = None

    def SupportServerGUIDs(self) -> bool:
        return True


class Deserializer(soap.SoapDeserializer):
    """Resolves references to the server's objects, also inside specs."""

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
    """Finds the method element in the body, and has it parsed as an object."""

    def __init__(self, context: RequestContext) -> None:
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
            self.context.require_login(name)
            self.deserializer.Deserialize(self.parser, self.method.request, False, self.nsMap)
            self.deserializer.StartElementHandler(tag, attr)
        else:
            self.path.append(tag)

    def EndElementHandler(self, tag: str) -> None:
        self.path.pop()

    def CharacterDataHandler(self, data: str) -> None:
        """Ignores text outside the method element."""


def parse(body: bytes, context: RequestContext) -> Request:
    """The request in a SOAP body.

    Raises vmodl faults: InvalidRequest for wrong XML or a wrong type, else what `context` raises.
    """
    try:
        return _Parser(context).parse(body)
    except (ExpatError, TypeError, AttributeError, ValueError, KeyError) as error:
        raise fault(vmodl.fault.InvalidRequest, f"The request cannot be read: {error}") from error


class RawXml(str):
    """XML that was serialised before, in the same API version."""

    __slots__ = ()


Shown = Callable[[str, str], str]
"""(name of a field, its text) -> the text for the client."""


@cache
def _fields(kind: Any, version: Any) -> list[tuple[str, Any, bool]]:
    """(name, description, whether its element holds plain text only) of a data object's fields."""
    return [
        (p.name, p, p.type is not object and support.GetWsdlNamespace(p.version) == NAMESPACE)
        for p in kind._GetPropertyList()
        if support.IsChildVersion(version, p.version)
    ]


class Serializer(soap.SoapSerializer):
    """pyVmomi's serializer, with what a server needs in addition."""

    def __init__(self, writer: StringIO, version: Any, shown: Shown | None = None) -> None:
        super().__init__(writer, version, _NSMAP)
        self.outermostAttrs = ""
        self.shown = shown

    def _QName(self, typ: Any, defNS: str) -> tuple[str, str]:
        if typ is ManagedObject:
            # pyVmomi accepts any name; govmomi finds the type only under this one.
            return "", "ManagedObjectReference"
        return super()._QName(typ, defNS)  # type: ignore[no-any-return]

    def _SerializeDataObject(self, val: Any, info: Any, attr: str, defNS: str) -> None:
        """The same elements as pyVmomi's, faster: most fields are unset or plain text."""
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
                # str(): in the enumeration of file operations, `replace` is a value.
                text = str(value)
                if self.shown is not None and text.startswith("["):
                    is_file = own is vim.vm.FileLayoutEx.FileInfo and name == "name"
                    text = self.shown("fileName" if is_file else name, text)
                write(f"<{name}>{soap.XmlEscape(text)}</{name}>")
            elif plain and isinstance(value, bool):
                write(f"<{name}>{'true' if value else 'false'}</{name}>")
            elif plain and isinstance(value, int):
                write(f"<{name}>{int(value)}</{name}>")
            else:
                self._Serialize(value, field, defNS)
        write(f"</{info.name}>")

    def _Serialize(self, val: Any, info: Any, defNS: str) -> None:
        if type(val) is RawXml:
            self.writer.write(val)
            return
        if val is None or (isinstance(val, list) and not val and info.type is not object):
            if info.flags & F_OPTIONAL:
                return
            val = neutral_value(info.type)
            if val is None:
                return
        if info.type is object and isinstance(val, list):
            self._typed_array(val, info, defNS)
            return
        if self.shown is not None and type(val) is str and val.startswith("["):
            val = self.shown(info.name, val)
        super()._Serialize(val, info, defNS)

    def _typed_array(self, val: Any, info: Any, defNS: str) -> None:
        """An array in an Any. Each item names its type, as vCenter's do: libvirt insists on it."""
        kind: Any = type(val)
        if soap.isDynamicType(kind.Item):
            name, kind = "string", support.GetVmodlType("string[]")
        elif issubclass(kind.Item, ManagedObject):
            name, kind = "ManagedObjectReference", ManagedObject.Array
        else:
            name = support.GetWsdlName(kind.Item)
        attribute, qualified = super()._QName(kind, defNS)
        if qualified.endswith("ArrayOfManagedObject"):
            qualified += "Reference"
        self.writer.write(f'<{info.name}{attribute} {self.xsiPrefix}type="{qualified}">')
        item = support.Object(name=name, type=object, version=info.version, flags=0)
        for value in val:
            self._Serialize(value, item, defNS)
        self.writer.write(f"</{info.name}>")


def to_xml(value: Any, info: Any, version: Any, shown: Shown | None = None) -> str:
    """The element of a value that `info` describes."""
    writer = StringIO()
    Serializer(writer, version, shown).Serialize(value, info)
    return writer.getvalue()


def result_xml(method: Method, value: Any, version: Any, shown: Shown | None = None) -> bytes:
    """The body that answers a call."""
    name = method.name
    out = [_HEAD, f'<{name}Response xmlns="{NAMESPACE}">']
    if value is not None:
        info = support.Object(name="returnval", type=method.result, version=_BASE, flags=F_OPTIONAL)
        out.append(to_xml(value, info, version, shown))
    out += [f"</{name}Response>", _TAIL]
    return "".join(out).encode()


def fault_xml(error: Any, version: Any, shown: Shown | None = None) -> bytes:
    """The body of HTTP 500. `detail` must be in no namespace: pyVmomi compares the name."""
    kind = support.GetCompatibleType(type(error), version)
    name = wsdl_name(kind)
    message, error.msg = error.msg or name, None
    writer = StringIO()
    info = support.Object(name=f"{name}Fault", type=object, version=_BASE, flags=0)
    try:
        Serializer(writer, version, shown)._SerializeDataObject(
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
