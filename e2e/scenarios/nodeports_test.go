package scenarios

import "testing"

func TestAServiceWithoutNodePortsIsReached(t *testing.T) {
	s := onFullLab(t)
	s.pool("lan", "198.18.0.200-198.18.0.210", "fd00:198:18::200-fd00:198:18::210")
	s.web()
	s.have(manifest("web", dualStack+", allocateLoadBalancerNodePorts: false"))
	for _, a := range s.addresses("web", 2) {
		_, mac := s.owner(a, "")
		s.answeredBy(a, mac)
		s.reachable(a)
	}
	if ports := s.must("get", "service", "web", "-o", "jsonpath={.spec.ports[*].nodePort}"); ports != "" {
		t.Errorf("the Service has node port %s, want none", ports)
	}
}
