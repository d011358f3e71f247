// Asks any vCenter what govc's commands ask, and prints what the answers have in common on all of
// them: kinds, names and counts, one line for each call. A lab and govmomi's simulator have to agree.
//
//	calls URL DATACENTER DATASTORE HOST VM
package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func must(step string, err error) {
	if err != nil {
		fmt.Printf("failed %s: %v\n", step, err)
		os.Exit(1)
	}
}

func told(step string, answer ...interface{}) {
	fmt.Println(append([]interface{}{step + ":"}, answer...)...)
}

// fault is the kind of a task's or a call's fault.
func fault(err error) string {
	if err == nil {
		return "none"
	}
	if soap.IsSoapFault(err) {
		return strings.TrimPrefix(fmt.Sprintf("%T", soap.ToSoapFault(err).VimFault()), "types.")
	}
	if withFault, is := err.(interface{ Fault() types.BaseMethodFault }); is {
		return strings.TrimPrefix(fmt.Sprintf("%T", withFault.Fault()), "*types.")
	}
	return err.Error()
}

func done(ctx context.Context, step string, task *object.Task, err error) types.AnyType {
	must(step, err)
	info, err := task.WaitForResult(ctx, nil)
	must(step, err)
	told(step, info.State)
	return info.Result
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	address, err := url.Parse(os.Args[1])
	must("url", err)
	dcName, dsName, hostName, vmName := os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	client, err := govmomi.NewClient(ctx, address, true)
	must("login", err)
	finder := find.NewFinder(client.Client, true)
	dc, err := finder.Datacenter(ctx, dcName)
	must("datacenter", err)
	finder.SetDatacenter(dc)
	collector := property.DefaultCollector(client.Client)

	// find
	vm, err := finder.VirtualMachine(ctx, vmName)
	must("find a VM", err)
	told("path of a VM", strings.TrimPrefix(vm.InventoryPath, "/"+dcName) == "/vm/"+vmName)
	for _, pattern := range []string{"*", "vm", "host/*", "datastore/*", "network/*"} {
		elements, err := finder.ManagedObjectListChildren(ctx, "/"+dcName+"/"+pattern)
		must("list "+pattern, err)
		told("list "+pattern, len(elements) > 0)
	}
	_, err = finder.VirtualMachine(ctx, "no such VM")
	_, is := err.(*find.NotFoundError)
	told("a VM that is not there", is)

	// Several PropertySpecs: names of the ancestors, as `govc find` reads them.
	ancestors, err := mo.Ancestors(ctx, client.Client, client.ServiceContent.PropertyCollector, vm.Reference())
	must("ancestors", err)
	var kinds, named []string
	for _, each := range ancestors {
		kinds = append(kinds, each.Self.Type)
		named = append(named, fmt.Sprint(each.Name != ""))
	}
	told("ancestors", kinds, named)
	request := types.RetrieveProperties{
		This: client.ServiceContent.PropertyCollector,
		SpecSet: []types.PropertyFilterSpec{{
			ObjectSet: []types.ObjectSpec{{Obj: vm.Reference()}},
			PropSet: []types.PropertySpec{
				{Type: "ManagedEntity", PathSet: []string{"name", "parent"}},
				{Type: "VirtualMachine", PathSet: []string{"runtime.powerState", "config.uuid"}},
			},
		}},
	}
	answer, err := collector.RetrieveProperties(ctx, request)
	must("two PropertySpecs", err)
	var read []string
	for _, property := range answer.Returnval[0].PropSet {
		read = append(read, property.Name)
	}
	sort.Strings(read)
	told("two PropertySpecs", read)

	// vm.info
	var info mo.VirtualMachine
	must("vm.info", collector.RetrieveOne(ctx, vm.Reference(), []string{"summary", "guest", "config"}, &info))
	told("vm.info", info.Summary.Config.Name == vmName, info.Summary.Runtime.PowerState,
		info.Config.Hardware.Device != nil, info.Summary.Vm.Type)

	// datastore.upload, .download, .ls, .rm
	store, err := finder.Datastore(ctx, dsName)
	must("datastore", err)
	files := object.NewFileManager(client.Client)
	told("mkdir", fault(files.MakeDirectory(ctx, store.Path("calls"), dc, true)))
	upload := soap.DefaultUpload
	text := "text of a file"
	must("upload", store.Upload(ctx, strings.NewReader(text), "calls/file.txt", &upload))
	reader, size, err := store.Download(ctx, "calls/file.txt", &soap.DefaultDownload)
	must("download", err)
	content, err := io.ReadAll(reader)
	must("download", err)
	told("download", string(content) == text, size)
	_, _, err = store.Download(ctx, "calls/none.txt", &soap.DefaultDownload)
	told("download of nothing", err != nil)
	browser, err := store.Browser(ctx)
	must("browser", err)
	search := types.HostDatastoreBrowserSearchSpec{MatchPattern: []string{"*"}}
	task, err := browser.SearchDatastore(ctx, store.Path("calls"), &search)
	found := done(ctx, "datastore.ls", task, err).(types.HostDatastoreBrowserSearchResults)
	told("datastore.ls finds", len(found.File), found.File[0].GetFileInfo().Path)
	task, err = files.DeleteDatastoreFile(ctx, store.Path("calls"), dc)
	done(ctx, "datastore.rm", task, err)

	// folder.create
	folders, err := dc.Folders(ctx)
	must("folders", err)
	outer, err := folders.VmFolder.CreateFolder(ctx, "outer")
	must("folder.create", err)
	inner, err := outer.CreateFolder(ctx, "inner")
	must("folder.create in a folder", err)
	_, err = folders.VmFolder.CreateFolder(ctx, "outer")
	told("a second folder of a name", fault(err))
	escaped, err := outer.CreateFolder(ctx, "a%2fb")
	must("folder with a slash", err)
	name, err := escaped.ObjectName(ctx)
	must("name of the folder", err)
	told("a name with a slash", name)

	// vm.create, power, snapshot, clone, destroy
	host, err := finder.HostSystem(ctx, hostName)
	must("host", err)
	pool, err := host.ResourcePool(ctx)
	must("pool", err)
	spec := types.VirtualMachineConfigSpec{
		Name: "made", GuestId: "otherGuest64", NumCPUs: 1, MemoryMB: 64,
		Files: &types.VirtualMachineFileInfo{VmPathName: "[" + dsName + "]"},
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd,
			Device: &types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
				SharedBus:         types.VirtualSCSISharingNoSharing,
				VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: -1}},
			}},
		}},
	}
	task, err = inner.CreateVM(ctx, spec, pool, host)
	reference := done(ctx, "vm.create", task, err).(types.ManagedObjectReference)
	made := object.NewVirtualMachine(client.Client, reference)
	devices, err := made.Device(ctx)
	must("devices", err)
	scsi, err := devices.FindSCSIController("")
	must("controller", err)
	told("controller", devices.TypeName(scsi))
	disk := devices.CreateDisk(scsi, store.Reference(), "")
	disk.CapacityInKB = 4096
	must("disk", made.AddDevice(ctx, disk))
	devices, err = made.Device(ctx)
	must("devices", err)
	added := devices.SelectByType((*types.VirtualDisk)(nil))
	told("disk", len(added))
	task, err = made.PowerOff(ctx)
	must("power off of a VM that is off", err)
	told("power off of a VM that is off", fault(task.Wait(ctx)))
	task, err = made.PowerOn(ctx)
	done(ctx, "power on", task, err)
	task, err = made.PowerOn(ctx)
	must("a second power on", err)
	told("a second power on", fault(task.Wait(ctx)))
	task, err = made.CreateSnapshot(ctx, "first", "text", false, false)
	done(ctx, "snapshot", task, err)
	task, err = made.CreateSnapshot(ctx, "second", "", false, false)
	done(ctx, "a second snapshot", task, err)
	var tree mo.VirtualMachine
	must("snapshot.tree", collector.RetrieveOne(ctx, reference, []string{"snapshot"}, &tree))
	root := tree.Snapshot.RootSnapshotList
	told("snapshot.tree", len(root), root[0].Name, root[0].Description, root[0].ChildSnapshotList[0].Name)
	task, err = made.RemoveSnapshot(ctx, "first", true, nil)
	done(ctx, "snapshot.remove with children", task, err)
	task, err = made.PowerOff(ctx)
	done(ctx, "power off", task, err)
	relocation := types.VirtualMachineRelocateSpec{Pool: types.NewReference(pool.Reference()), Host: types.NewReference(host.Reference())}
	task, err = made.Clone(ctx, inner, "copy", types.VirtualMachineCloneSpec{Location: relocation})
	copied := done(ctx, "vm.clone", task, err).(types.ManagedObjectReference)
	told("clone is another VM", copied != reference, copied.Type)
	task, err = made.Clone(ctx, inner, "copy", types.VirtualMachineCloneSpec{Location: relocation})
	if err == nil {
		err = task.Wait(ctx)
	}
	told("a second clone of a name", fault(err))
	other := object.NewVirtualMachine(client.Client, copied)
	task, err = other.Reconfigure(ctx, types.VirtualMachineConfigSpec{Annotation: "text", ExtraConfig: []types.BaseOptionValue{&types.OptionValue{Key: "guestinfo.x", Value: "1"}}})
	done(ctx, "vm.change", task, err)
	must("unregister", other.Unregister(ctx))
	_, err = other.ObjectName(ctx)
	told("a VM that is gone", fault(err))
	task, err = outer.Destroy(ctx)
	done(ctx, "object.destroy of a folder with VMs", task, err)
	_, err = made.ObjectName(ctx)
	told("a VM that was in it", fault(err))
	must("logout", client.Logout(ctx))
}
