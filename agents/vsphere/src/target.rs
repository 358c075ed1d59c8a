//! No target: hypervisors that speak this protocol are not driven yet. What a vSphere client asks is performed by the targets of other
//! protocols, through their lanes.
