package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AddressRange is a set of addresses: a CIDR (192.0.2.0/24, 2001:db8::/64), a range with both ends included
// (192.0.2.10-192.0.2.20), or one address (192.0.2.7).
//
// +kubebuilder:validation:MaxLength=95
// +kubebuilder:validation:XValidation:rule="isIP(self) || isCIDR(self) || (self.split('-').size() == 2 && self.split('-').all(p, isIP(p.trim())))",messageExpression="\"'\" + self + \"' is not a set of addresses: write a CIDR (192.0.2.0/24), a range (192.0.2.10-192.0.2.20) or one address (192.0.2.7)\""
// +kubebuilder:validation:XValidation:rule="!(self.split('-').size() == 2 && self.split('-').all(p, isIP(p.trim()))) || ip(self.split('-')[0].trim()).family() == ip(self.split('-')[1].trim()).family()",messageExpression="\"'\" + self + \"' mixes address families: both ends of a range must be IPv4, or both IPv6\""
// +kubebuilder:validation:XValidation:rule="!(self.split('-').size() == 2 && self.split('-').all(p, isIP(p.trim()) && ip(p.trim()).family() == 4)) || int(self.split('-')[0].trim().split('.')[0])*16777216 + int(self.split('-')[0].trim().split('.')[1])*65536 + int(self.split('-')[0].trim().split('.')[2])*256 + int(self.split('-')[0].trim().split('.')[3]) <= int(self.split('-')[1].trim().split('.')[0])*16777216 + int(self.split('-')[1].trim().split('.')[1])*65536 + int(self.split('-')[1].trim().split('.')[2])*256 + int(self.split('-')[1].trim().split('.')[3])",messageExpression="\"'\" + self + \"' runs backwards: write the lower address first\""
// +kubebuilder:validation:XValidation:rule="!isIP(self) || ip(self).isGlobalUnicast()",messageExpression="\"'\" + self + \"' cannot be given to a Service: it is a loopback, link-local, multicast or unspecified address; use a unicast address that your network routes\""
// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self).ip().isGlobalUnicast()",messageExpression="\"'\" + self + \"' cannot be given to Services: it is a loopback, link-local, multicast or unspecified network; use a unicast network that your network routes\""
// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self).prefixLength() >= 4",messageExpression="\"'\" + self + \"' spans far more than any network has: write a longer prefix, such as a /24\""
// +kubebuilder:validation:XValidation:rule="!(self.split('-').size() == 2 && self.split('-').all(p, isIP(p.trim()))) || self.split('-').all(p, ip(p.trim()).isGlobalUnicast())",messageExpression="\"'\" + self + \"' cannot be given to Services: an end of the range is a loopback, link-local, multicast or unspecified address; use unicast addresses that your network routes\""
type AddressRange string

// Protocol is a way to make an address reachable.
//
// +kubebuilder:validation:Enum=L2;BGP
type Protocol string

// The ways to make an address reachable.
const (
	ProtocolL2  Protocol = "L2"  // ARP and NDP, answered by one node at a time
	ProtocolBGP Protocol = "BGP" // routes to every BGPPeer, from every node
)

// Sharing says who may use one sharing key together.
//
// +kubebuilder:validation:Enum=SameNamespace;AcrossNamespaces
type Sharing string

// The sharing scopes.
const (
	SharingSameNamespace    Sharing = "SameNamespace"
	SharingAcrossNamespaces Sharing = "AcrossNamespaces"
)

// OnChange says what becomes of a Service whose address its pool no longer covers.
//
// +kubebuilder:validation:Enum=Keep;Renumber
type OnChange string

// What can become of such a Service.
const (
	OnChangeKeep     OnChange = "Keep"
	OnChangeRenumber OnChange = "Renumber"
)

// ConflictDetection says what to do about another machine on the network that has an address of the pool.
//
// +kubebuilder:validation:Enum=Off;Warn;Enforce
type ConflictDetection string

// What can be done about it.
const (
	ConflictDetectionOff     ConflictDetection = "Off"
	ConflictDetectionWarn    ConflictDetection = "Warn"
	ConflictDetectionEnforce ConflictDetection = "Enforce"
)

// Address is one IPv4 or IPv6 address.
//
// +kubebuilder:validation:MaxLength=45
// +kubebuilder:validation:XValidation:rule="isIP(self)",messageExpression="\"'\" + self + \"' is not an IP address: write one address, such as 192.0.2.7 or 2001:db8::7\""
type Address string

// ServiceName names a Service.
type ServiceName struct {
	// Namespace of the Service.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace"`
	// Name of the Service.
	//
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
}

// Reservation keeps an address for one Service, whether that exists or not.
type Reservation struct {
	// Address that is kept; the pool must have it.
	Address Address `json:"address"`
	// Service that may have it, whatever serviceAllocation and autoAssign say. Where several reservations name one address,
	// each of their Services may have it, and together if they may share it.
	Service ServiceName `json:"service"`
}

// IPAddressPoolSpec says which addresses there are to give, and to whom.
type IPAddressPoolSpec struct {
	// Addresses that this pool gives to Services. Each entry is a CIDR (192.0.2.0/24), a range (192.0.2.10-192.0.2.20)
	// or one address; IPv4 and IPv6 may be mixed.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +listType=set
	Addresses []AddressRange `json:"addresses"`

	// ExcludedAddresses are never given out, though Addresses holds them: gateways, DHCP ranges.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +listType=set
	ExcludedAddresses []AddressRange `json:"excludedAddresses,omitempty"`

	// AutoAssign lets any Service have an address from this pool. With false, only Services that ask for the pool or
	// for one of its addresses get one.
	//
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// AvoidBuggyIPs skips IPv4 addresses that end in .0 or .255 unless a Service asks for one by name.
	//
	// +optional
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// Advertise announces this pool with default settings, as if an empty advertisement of each protocol named it.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=2
	// +listType=set
	Advertise []Protocol `json:"advertise,omitempty"`

	// ServiceAllocation restricts and orders who gets addresses from this pool.
	//
	// +optional
	ServiceAllocation *ServiceAllocation `json:"serviceAllocation,omitempty"`

	// Sharing says who may use one sharing key (annotation bellwether.dev/allow-shared-ip) together; Services of several namespaces
	// only where all have externalTrafficPolicy Cluster.
	//
	// +optional
	// +kubebuilder:default=SameNamespace
	Sharing Sharing `json:"sharing,omitempty"`

	// MaxPerNamespace is how many addresses of each family the Services of one namespace may have from this pool. An
	// address that they share counts once.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxPerNamespace *int32 `json:"maxPerNamespace,omitempty"`

	// Reservations keep addresses for Services by name. A Service that has one gets it before any other address of the
	// pool.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=1000
	// +listType=atomic
	Reservations []Reservation `json:"reservations,omitempty"`

	// RetainFor is how long an address is kept for a Service of the same namespace and name after its Service was
	// deleted, such as 10m or 24h.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=24
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}(ms|s|m|h)){1,4}$')",messageExpression="\"'\" + self + \"' is not a length of time: write one such as 10m or 24h\""
	RetainFor string `json:"retainFor,omitempty"`

	// OnChange says what becomes of a Service whose address this pool no longer covers: Keep lets it keep the address,
	// still announced, with the reason OutOfPool; Renumber gives it another one, and takes the old one away a while after.
	//
	// +optional
	// +kubebuilder:default=Keep
	OnChange OnChange `json:"onChange,omitempty"`

	// ConflictDetection says what to do about another machine on the network that has an address of this pool. Warn announces at
	// once, asks the network at the same time, and says so in a condition and an event; Enforce asks first, does not announce while
	// another machine answers, and gives the Service another address where it did not ask for this one; Off does nothing.
	//
	// +optional
	// +kubebuilder:default=Warn
	ConflictDetection ConflictDetection `json:"conflictDetection,omitempty"`
}

// ServiceAllocation restricts a pool to some Services. A Service must match the namespace half (Namespaces or
// NamespaceSelectors, where either is set) and the service half (ServiceSelectors, where set).
type ServiceAllocation struct {
	// Priority orders the pools that a Service may use: lower first, pools without one last.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Priority *int32 `json:"priority,omitempty"`

	// Namespaces whose Services may use this pool.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +listType=set
	Namespaces []string `json:"namespaces,omitempty"`

	// NamespaceSelectors select namespaces by label; one that matches is enough.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors,omitempty"`

	// ServiceSelectors select Services by label; one that matches is enough.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`
}

// FinalizerInUse keeps a pool until the last Service that has an address of it has gone.
const FinalizerInUse = "bellwether.dev/in-use"

// Usage counts the addresses of one family, clamped to 2^63-1.
type Usage struct {
	// Total addresses that the pool can give.
	Total int64 `json:"total"`
	// Assigned addresses, each counted once however many Services share it.
	Assigned int64 `json:"assigned"`
	// Available addresses that are still free.
	Available int64 `json:"available"`
}

// Retained is an address that is kept for a Service that was deleted.
type Retained struct {
	Address string      `json:"address"`
	Service ServiceName `json:"service"`
	// Until is when anybody may have the address again.
	Until metav1.Time `json:"until"`
}

// IPAddressPoolStatus is what the controller says about a pool.
type IPAddressPoolStatus struct {
	// IPv4 counts the pool's IPv4 addresses.
	//
	// +optional
	IPv4 Usage `json:"ipv4"`
	// IPv6 counts the pool's IPv6 addresses.
	//
	// +optional
	IPv6 Usage `json:"ipv6"`
	// Retained addresses are kept for Services that were deleted.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	// +listType=atomic
	Retained []Retained `json:"retained,omitempty"`
	// Conditions: Accepted, Ready, Exhausted, Overlaps, Advertised.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// IPAddressPool is a set of addresses that Services of type LoadBalancer are given from.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=pool;pools,categories=bellwether
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Auto",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="V4 Used",type=integer,JSONPath=`.status.ipv4.assigned`
// +kubebuilder:printcolumn:name="V4 Free",type=integer,JSONPath=`.status.ipv4.available`
// +kubebuilder:printcolumn:name="V6 Used",type=integer,JSONPath=`.status.ipv6.assigned`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Advertised",type=string,JSONPath=`.status.conditions[?(@.type=="Advertised")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPAddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec IPAddressPoolSpec `json:"spec"`
	// +optional
	Status IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolList is a list of IPAddressPools.
//
// +kubebuilder:object:root=true
type IPAddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []IPAddressPool `json:"items"`
}
