"""Service objects of vCenter: login, views, search, options, custom attributes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from vreplica.lab.api.managed import Managed, cached, live
from vreplica.lab.api.names import named
from vreplica.lab.api.vmodl import fault, invalid_argument, vim
from vreplica.lab.storage.datastore_names import datacenter_of
from vreplica.lab.vcenter.inventory import about
from vreplica.lab.vcenter.unsupported import vcenter_managers


class ServiceInstance(Managed, vim.ServiceInstance):
    capability: Any

    @live
    def content(self) -> Any:
        return self.RetrieveServiceContent()

    @live
    def serverClock(self) -> Any:
        return self._site.now()

    def RetrieveServiceContent(self) -> Any:
        # The API version is a setting.
        self._site.content.about = about(self._site)
        return self._site.content

    def CurrentTime(self) -> Any:
        return self._site.now()


class SessionManager(Managed, vim.SessionManager):
    defaultLocale = "en"
    messageLocaleList: Any = ("en",)
    supportedLocaleList: Any = ("en",)

    @live
    def currentSession(self) -> Any:
        session = self._site.current.session
        return self.described(session) if session else None

    @live
    def sessionList(self) -> Any:
        return [self.described(s) for s in self._site.sessions.by_key.values()]

    def described(self, session: Any) -> Any:
        return vim.UserSession(
            key=session.key,
            userName=session.user,
            fullName=session.user,
            loginTime=session.login_time,
            lastActiveTime=self._site.now(),
            locale="en",
            messageLocale="en",
            extensionSession=False,
            ipAddress=session.address,
            userAgent=session.agent,
            callCount=session.calls,
        )

    def Login(self, userName: str, password: str, locale: str | None = None) -> Any:
        site, call = self._site, self._site.current
        known = site.users.get(userName)
        if known is None or known["password"] != password:
            site.post_event("BadUsernameSessionEvent", ipAddress=call.address, userName=userName)
            raise fault(
                vim.fault.InvalidLogin,
                "Cannot complete login due to an incorrect user name or password.",
            )
        if call.session is not None:
            # "This method fails if the user is already logged in" (vSphere API, Login).
            raise fault(
                vim.fault.InvalidLogin, "Cannot complete login: this session is logged in already."
            )
        call.session = site.sessions.open(userName, call.agent, call.address)
        call.cookie = call.session.key
        site.post_event(
            "UserLoginSessionEvent",
            ipAddress=call.address,
            userAgent=call.agent,
            locale="en",
            sessionId=call.session.key[:8],
        )
        return self.described(call.session)

    def Logout(self) -> None:
        call = self._site.current
        if call.session is not None:
            self._site.sessions.close(call.session.key)
            self._site.post_event("UserLogoutSessionEvent", ipAddress=call.address)

    def SessionIsActive(self, sessionID: str, userName: str) -> bool:
        session = self._site.sessions.by_key.get(sessionID)
        return session is not None and session.user == userName

    def TerminateSession(self, sessionId: Any) -> None:
        for key in sessionId:
            if key not in self._site.sessions.by_key:
                raise fault(vim.fault.NotFound, f"There is no session {key}")
            self._site.sessions.close(key)


# -- views ----------------------------------------------------------------------------------


def children(item: Any) -> Iterator[Any]:
    """The objects directly below an object in the inventory."""
    if isinstance(item, vim.Folder):
        yield from item.childEntity
    elif isinstance(item, vim.Datacenter):
        yield from (item.vmFolder, item.hostFolder, item.datastoreFolder, item.networkFolder)
    elif isinstance(item, vim.ComputeResource):
        yield from item.host
        yield item.resourcePool
    elif isinstance(item, vim.ResourcePool):
        yield from item.resourcePool
        if isinstance(item, vim.VirtualApp):
            yield from item.vm


def viewed(item: Any) -> Iterator[Any]:
    """The objects directly below a container of a view: pools and hosts also have VMs there."""
    yield from children(item)
    if isinstance(item, vim.ResourcePool | vim.HostSystem):
        yield from item.vm


def below(item: Any, found: dict[Any, None]) -> dict[Any, None]:
    """Adds all objects below a container of a view to `found`, each once."""
    for child in viewed(item):
        if child not in found:
            found[child] = None
            below(child, found)
    return found


_CONTAINERS = (
    vim.Folder,
    vim.Datacenter,
    vim.ComputeResource,
    vim.ResourcePool,
    vim.HostSystem,
)
"""What a container view may be of (vSphere API, ContainerView.container)."""


class ContainerView(Managed, vim.view.ContainerView):
    _persistent = False
    container: Any
    type: Any
    recursive: Any

    @live
    def view(self) -> Any:
        top = self.container
        found = below(top, {}) if self.recursive else dict.fromkeys(viewed(top))
        kinds = tuple(self.type or ())
        return [c for c in found if not kinds or isinstance(c, kinds)]

    def DestroyView(self) -> None:
        self.__dict__["_objects"].pop(self._moId, None)


class ListView(Managed, vim.view.ListView):
    _persistent = False
    view: Any

    def ModifyListView(self, add: Any = (), remove: Any = ()) -> Any:
        kept = [v for v in self.view if v not in (remove or ())]
        self.view = [*kept, *(a for a in add or () if a not in kept)]
        return []

    def ResetListView(self, obj: Any = ()) -> Any:
        self.view = list(obj or ())
        return []

    def DestroyView(self) -> None:
        self.__dict__["_objects"].pop(self._moId, None)


class ViewManager(Managed, vim.view.ViewManager):
    def _own(self, made: Any, **values: Any) -> Any:
        objects = self._site.current.objects
        made.__dict__.update(values, _objects=objects)
        objects[made._moId] = made
        return made

    @live
    def viewList(self) -> Any:
        return [o for o in self._site.current.objects.values() if isinstance(o, vim.view.View)]

    def CreateContainerView(self, container: Any, type: Any = None, recursive: bool = False) -> Any:  # noqa: A002
        if not isinstance(container, _CONTAINERS):
            raise invalid_argument("container")
        made = ContainerView(self._site, f"session[{self._site.new_id('view')}]")
        return self._own(made, container=container, type=type or [], recursive=recursive)

    def CreateListView(self, obj: Any = ()) -> Any:
        made = ListView(self._site, f"session[{self._site.new_id('view')}]")
        return self._own(made, view=list(obj or ()))


# -- search ---------------------------------------------------------------------------------


class SearchIndex(Managed, vim.SearchIndex):
    def FindByInventoryPath(self, inventoryPath: str) -> Any:
        at = self._site.root_folder
        for part in filter(None, inventoryPath.split("/")):
            at = self.FindChild(at, part)
            if at is None:
                return None
        return at

    def FindChild(self, entity: Any, name: str) -> Any:
        return named(children(entity), name)

    def FindAllByUuid(
        self, datacenter: Any, uuid: str, vmSearch: bool, instanceUuid: bool = False
    ) -> Any:
        if not vmSearch:
            return [h for h in self._hosts(datacenter) if h.uuid == uuid.lower()]
        name = "instanceUuid" if instanceUuid else "uuid"
        return [v for v in self._vms(datacenter) if getattr(v.config, name) == uuid.lower()]

    def _vms(self, datacenter: Any) -> list[Any]:
        found = self._site.vms()
        return [v for v in found if datacenter is None or datacenter_of(v) is datacenter]

    def _hosts(self, datacenter: Any) -> list[Any]:
        found = self._site.hosts()
        return [h for h in found if datacenter is None or datacenter_of(h) is datacenter]

    def FindByUuid(
        self, datacenter: Any, uuid: str, vmSearch: bool, instanceUuid: bool = False
    ) -> Any:
        found = self.FindAllByUuid(datacenter, uuid, vmSearch, instanceUuid)
        return found[0] if found else None

    def FindByDatastorePath(self, datacenter: Any, path: str) -> Any:
        self._site.disks.path(path)  # raises InvalidDatastore
        vms = self._vms(datacenter)
        return next((v for v in vms if v.config.files.vmPathName == path), None)

    def FindByDnsName(self, datacenter: Any, dnsName: str, vmSearch: bool) -> Any:
        if not vmSearch:
            return next((h for h in self._hosts(datacenter) if h.name == dnsName), None)
        return next((v for v in self._vms(datacenter) if v.guest.hostName == dnsName), None)

    def FindAllByDnsName(self, datacenter: Any, dnsName: str, vmSearch: bool) -> Any:
        if not vmSearch:
            return [h for h in self._hosts(datacenter) if h.name == dnsName]
        return [v for v in self._vms(datacenter) if v.guest.hostName == dnsName]

    def FindAllByIp(self, datacenter: Any, ip: str, vmSearch: bool) -> Any:
        self.FindByIp(datacenter, ip, False)  # raises where it is not an address
        found = self._vms(datacenter) if vmSearch else ()
        return [v for v in found if any(ip in nic.ipAddress for nic in v.guest.net)]

    def FindByIp(self, datacenter: Any, ip: str, vmSearch: bool) -> Any:
        try:
            ipaddress.ip_address(ip)
        except ValueError:
            raise invalid_argument("ip") from None
        if not vmSearch:
            return None
        return next((v for v in self._vms(datacenter) if v.guest.ipAddress == ip), None)


# -- options and custom fields --------------------------------------------------------------


class OptionManager(Managed, vim.option.OptionManager):
    options: Any

    @cached
    def setting(self) -> Any:
        return [vim.option.OptionValue(key=k, value=v) for k, v in (self.options or {}).items()]

    def QueryOptions(self, name: str | None = None) -> Any:
        found = [
            o
            for o in self.setting
            if not name or o.key == name or (name.endswith(".") and o.key.startswith(name))
        ]
        if name and not found:
            raise fault(vim.fault.InvalidName, f"There is no option {name}", name=name)
        return found


class CustomFieldsManager(Managed, vim.CustomFieldsManager):
    field: Any

    def AddCustomFieldDef(
        self, name: str, moType: Any = None, fieldDefPolicy: Any = None, fieldPolicy: Any = None
    ) -> Any:
        taken = next(
            (f for f in self.field if f.name == name and f.managedObjectType == moType), None
        )
        if taken is not None:
            raise fault(
                vim.fault.DuplicateName,
                f"The name '{name}' already exists.",
                name=name,
                object=self._site.root_folder,
            )
        number = 1 + max((f.key for f in self.field), default=100)
        made = vim.CustomFieldsManager.FieldDef(
            key=number, name=name, type=str, managedObjectType=moType
        )
        self.field = [*self.field, made]
        return made

    def RemoveCustomFieldDef(self, key: int) -> None:
        if all(f.key != key for f in self.field):
            raise invalid_argument("key")
        self.field = [f for f in self.field if f.key != key]

    def SetField(self, entity: Any, key: int, value: str) -> None:
        if all(f.key != key for f in self.field):
            raise invalid_argument("key")
        entity.store_value(key, value)


def content(site: Any, managers: dict[str, Any]) -> Any:
    """ServiceContent: the managers by their fields, also those that answer NotSupported."""
    return vim.ServiceInstanceContent(
        rootFolder=site.root_folder,
        about=about(site),
        **{**vcenter_managers(site), **managers},
    )
