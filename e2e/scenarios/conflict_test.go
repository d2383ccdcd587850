package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	corev1 "k8s.io/api/core/v1"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// squat gives an address to the router of the lab, which then answers for it as any other machine would, until the returned function
// is called.
func (s *scene) squat(a netip.Addr) (leave func()) {
	s.Helper()
	change := func(ctx context.Context, verb string) error {
		cmd := s.Lab.CommandContext(ctx, lab.Router, "ip", "address", verb, netip.PrefixFrom(a, a.BitLen()).String(), "dev", "eth0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("ip address %s %s on the router: %w: %s", verb, a, err, out)
		}
		return nil
	}
	if err := change(s.ctx, "add"); err != nil {
		s.Fatal(err)
	}
	left := false
	leave = func() {
		if !left {
			left = true
			if err := change(context.Background(), "del"); err != nil {
				s.Error(err)
			}
		}
	}
	s.Cleanup(leave)
	return leave
}

func (s *ledgered) conflictOf(service *corev1.Service) string {
	s.Helper()
	if c := meta.FindStatusCondition(s.read(service).Status.Conditions, "bellwether.dev/AddressConflict"); c != nil {
		return c.Message
	}
	return ""
}

// TestAnotherMachineThatHasAnAddressIsNamed, and the address is announced all the same, at once: that is what a pool says by default.
func TestAnotherMachineThatHasAnAddressIsNamed(t *testing.T) {
	s := onSegment(t)
	a := netip.MustParseAddr("198.18.0.230")
	stranger, err := s.MAC(s.ctx, lab.Router)
	s.act(err)
	leave := s.squat(a)
	s.poolOf("contested", fmt.Sprintf("addresses: [%q], advertise: [L2]", a))
	stop := s.asking(10*time.Millisecond, a)
	service := s.create("contested")
	s.becomes(service, 1, "Allocated")
	s.eventually(patience, "the Service names the other machine", func() bool { return strings.Contains(s.conflictOf(service), stranger) })
	s.eventually(patience, "there is an event that names it", func() bool {
		return strings.Contains(s.must("get", "events", "--field-selector", "reason=AddressConflict,involvedObject.name=contested", "-o", "jsonpath={.items[*].message}"), stranger)
	})
	owner, mac := s.owner(a, "")
	if got := s.must("get", "speaker", owner, "-o", "jsonpath={.status.layer2.conflicts[*]['address','station','announced']}"); got != a.String()+" "+stranger+" true" {
		t.Errorf("the Speaker says %q", got)
	}
	leave()
	s.eventually(patience, "nothing is said of it when it is gone", func() bool { return s.conflictOf(service) == "" })
	s.answeredBy(a, mac)
	record := stop()
	if macs := record.MACs(); len(macs) != 2 {
		t.Errorf("it was answered for by %v, want the owner and the other machine", macs)
	}
	s.becomes(service, 1, "Allocated")
}

// TestAnAddressOfAnotherMachineIsNotAnnouncedWhereThatIsEnforced, and its Service gets the next one.
func TestAnAddressOfAnotherMachineIsNotAnnouncedWhereThatIsEnforced(t *testing.T) {
	s := onSegment(t)
	taken, free := netip.MustParseAddr("198.18.0.231"), netip.MustParseAddr("198.18.0.232")
	stranger, err := s.MAC(s.ctx, lab.Router)
	s.act(err)
	s.squat(taken)
	s.poolOf("enforced", fmt.Sprintf("addresses: [%q], advertise: [L2], conflictDetection: Enforce", taken.String()+"-"+free.String()))
	stop := s.asking(5*time.Millisecond, taken)
	service := s.create("moves")
	s.eventually(patience, "the Service has moved to the free address", func() bool {
		ingress := s.read(service).Status.LoadBalancer.Ingress
		return len(ingress) == 1 && ingress[0].IP == free.String()
	})
	_, mac := s.owner(free, "")
	s.answeredBy(free, mac)
	asks := s.create("asks", annotated("bellwether.dev/load-balancer-ips", taken.String()))
	refused := s.becomes(asks, 0, "AddressInUse")
	if !strings.Contains(messageOf(refused), stranger) {
		t.Errorf("the refusal does not name the other machine: %s", messageOf(refused))
	}
	if macs := stop().MACs(); len(macs) != 1 || macs[0] != stranger {
		t.Errorf("%s was answered for by %v, want only %s", taken, macs, stranger)
	}
}

// TestAddressesOfNodesAndRoutersAreNotGiven though a pool has them, and the pool says so.
func TestAddressesOfNodesAndRoutersAreNotGiven(t *testing.T) {
	s := onSegment(t)
	node := s.Lab.Nodes()[0].Addrs[0]
	s.poolOf("careless", fmt.Sprintf(`addresses: ["198.18.0.1", %q, "198.18.0.233"], advertise: [L2]`, node))
	service := s.becomes(s.create("careful"), 1, "Allocated")
	if got := service.Status.LoadBalancer.Ingress[0].IP; got != "198.18.0.233" {
		t.Errorf("it got %s", got)
	}
	s.eventually(patience, "the pool names both", func() bool {
		said := s.must("get", "pool", "careless", "-o", `jsonpath={.status.conditions[?(@.type=="Accepted")].message}`)
		return strings.Contains(said, node.String()+" is in use by node "+s.Lab.Nodes()[0].Name) && strings.Contains(said, "198.18.0.1 is in use by the default router of node")
	})
	s.becomes(s.create("none-left"), 0, "Exhausted")
}
