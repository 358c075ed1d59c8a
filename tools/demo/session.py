"""A pyVmomi session as anyone would write it: list the machines, power one off, wait for the task.

    python3 session.py HOST PORT USER PASSWORD MACHINE
"""

import sys

from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim

host, port, user, password, machine = sys.argv[1:]
instance = SmartConnect(host=host, port=int(port), user=user, pwd=password, disableSslCertValidation=True)
content = instance.RetrieveContent()
view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
for vm in view.view:
    print(vm.name, vm.runtime.powerState, f"{vm.config.hardware.memoryMB} MB", vm.summary.config.uuid)

vm = next(vm for vm in view.view if vm.name == machine)
task = vm.PowerOffVM_Task()
WaitForTask(task)
print(f"powering {machine} off:", task.info.state)
print(vm.name, vm.runtime.powerState)
view.DestroyView()
Disconnect(instance)
