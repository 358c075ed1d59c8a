//! No front: nobody manages a simulated hypervisor in words of its own; vendors' fronts show it.
