"""What honest clients do."""

import clients


def change_in(session, host: str, text: str) -> None:
    vm = next(vm for vm in session.objects(clients.vim.VirtualMachine) if vm.name.endswith(host))
    session.perform(vm.ReconfigVM_Task(clients.vim.vm.ConfigSpec(annotation=text)))


def change(front, host: str, text: str) -> None:
    """A change that goes through the engine, to a VM of a host."""
    with clients.Session(front) as session:
        change_in(session, host, text)
