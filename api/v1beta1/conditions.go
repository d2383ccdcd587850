package v1beta1

// The conditions of a Service.
const (
	ConditionAllocated = "bellwether.dev/Allocated"
	ConditionAnnounced = "bellwether.dev/Announced"
	// ConditionAddressConflict is there while another machine has an address of a Service.
	ConditionAddressConflict = "bellwether.dev/AddressConflict"
	// ConditionRenumbering is there while a Service holds an old and a new address.
	ConditionRenumbering = "bellwether.dev/Renumbering"
)

// The conditions of a Speaker.
const (
	ConditionReady            = "Ready"
	ConditionMembersAgree     = "MembersAgree"
	ConditionConfigApplied    = "ConfigApplied"
	ConditionKubeProxyHealthy = "KubeProxyHealthy"
)

// ReasonLeaving is why a Speaker is not Ready that hands its addresses over before it stops.
const ReasonLeaving = "Leaving"
