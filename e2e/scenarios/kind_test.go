package scenarios

import (
	"flag"
	"os"
	"strings"

	"github.com/bellwether-lb/bellwether/e2e/lab"
)

// onKind are the scenarios that need nodes with kubelets, and nothing of the lab's own nodes: they pass on a cluster of kind's as well.
func onKind() []string {
	return []string{
		"TestAServiceGetsAddressesThatOneNodeAnswersFor", "TestADeletedServiceGivesItsAddressToTheOneThatWaits", "TestAPoolInUseGoesWithItsLastService",
		"TestLocalTrafficIsAnnouncedOnlyWhereAnEndpointServes", "TestAServiceWithoutNodePortsIsReached", "TestKillingEitherControllerMovesNoAddress",
		"TestPowerLossOfTheOwnerIsShortAndItsReturnIsSeamless", "TestARollingRestartOfTheSpeakersIsSeamless",
		"TestEveryAddressAnswersWhileTheAPIServerIsAway", "TestBlockedGossipMakesNoSecondOwner", "TestExplainAsksTheSegment",
		"TestTheChartIsUninstalledAndInstalledAgain", "TestMetricsAreForThoseWhomTheAPIServerLets", "TestTakeoverFromMetalLB",
		"TestTwoRoutersShareTheTraffic", "TestSixWaysIn",
	}
}

// fullLab has nodes that are machines: the lab's own, or, with BELLWETHER_ON=kind, Docker containers.
func fullLab() lab.Options {
	return lab.Options{Name: "scenarios", Log: os.Stderr, Kind: kindWanted(), NodeImage: os.Getenv("BELLWETHER_NODE_IMAGE")}
}

func kindWanted() bool { return os.Getenv("BELLWETHER_ON") == "kind" }

// choose runs what passes on kind, where kind is wanted and nobody has chosen.
func choose() error {
	flag.Parse()
	if run := flag.Lookup("test.run"); kindWanted() && run.Value.String() == "" {
		return run.Value.Set("^(" + strings.Join(onKind(), "|") + ")$")
	}
	return nil
}
