package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	api "github.com/osrg/gobgp/v3/api"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// peerServer is a gobgp server for one session.
type peerServer struct {
	*server.BgpServer
	routerID netip.Addr
	log      *serverLog
	unwatch  context.CancelFunc
}

// change is what happened to the peer of a server.
type change struct {
	state   string
	peerASN uint32
}

// servers are those without a session. gobgp writes two variables of its package whenever a server starts, which the others read without a
// lock: so servers are started some at a time before any of them works, and used again.
type servers struct{ idle []*peerServer }

// atOnce is how many are started together.
const atOnce = 8

func (s *servers) take(ctx context.Context, routerID netip.Addr) (*peerServer, error) {
	fits := func(p *peerServer) bool { return p.routerID == routerID }
	if !slices.ContainsFunc(s.idle, fits) {
		for range atOnce {
			p, err := startServer(ctx, routerID)
			if err != nil {
				return nil, err
			}
			s.idle = append(s.idle, p)
		}
	}
	i := slices.IndexFunc(s.idle, fits)
	p := s.idle[i]
	s.idle = slices.Delete(s.idle, i, i+1)
	return p, nil
}

// placeholderASN is of no session: each has its own beside it. It is one of those for private use, RFC 6996.
const placeholderASN = 4294967294

func startServer(ctx context.Context, routerID netip.Addr) (*peerServer, error) {
	p := &peerServer{routerID: routerID, log: &serverLog{}, unwatch: func() {}}
	p.BgpServer = server.NewBgpServer(server.LoggerOption(p.log))
	go p.Serve()
	err := p.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: placeholderASN, RouterId: routerID.String(), ListenPort: -1}})
	if err != nil {
		return nil, fmt.Errorf("start a BGP server: %w", err)
	}
	return p, nil
}

// watch has changes of the server's peer told until unwatch.
func (p *peerServer) watch(ctx context.Context, log *slog.Logger, tell func(context.Context, change)) error {
	ctx, cancel := context.WithCancel(ctx)
	p.unwatch = cancel
	p.log.use(log)
	err := p.WatchEvent(ctx, &api.WatchEventRequest{Peer: &api.WatchEventRequest_Peer{}}, func(r *api.WatchEventResponse) {
		e := r.GetPeer()
		if e.GetType() != api.WatchEventResponse_PeerEvent_STATE || ctx.Err() != nil {
			return
		}
		tell(ctx, change{state: stateName(e.GetPeer().GetState().GetSessionState()), peerASN: e.GetPeer().GetState().GetPeerAsn()})
	})
	if err != nil {
		cancel()
		return fmt.Errorf("watch a BGP server: %w", err)
	}
	return nil
}

func stateName(s api.PeerState_SessionState) string {
	switch s {
	case api.PeerState_CONNECT:
		return "Connect"
	case api.PeerState_ACTIVE:
		return "Active"
	case api.PeerState_OPENSENT:
		return "OpenSent"
	case api.PeerState_OPENCONFIRM:
		return "OpenConfirm"
	case api.PeerState_ESTABLISHED:
		return Established
	case api.PeerState_IDLE, api.PeerState_UNKNOWN:
	}
	return "Idle"
}

// serverLog is a gobgp logger that passes on what concerns an operator, and remembers why the peer was lost.
type serverLog struct {
	to     atomic.Pointer[slog.Logger]
	reason atomic.Pointer[string]

	refused atomic.Pointer[string] // why a message of the peer was not taken
}

func (l *serverLog) use(to *slog.Logger) {
	l.to.Store(to)
	l.reason.Store(nil)
}

// lost is why the peer was lost last, "" if it is not known.
func (l *serverLog) lost() string {
	if reason := l.reason.Load(); reason != nil {
		return *reason
	}
	return ""
}

// sentence says what gobgp's reason for the end of a session, or of an attempt at one, means.
func sentence(reason string) string {
	badAS := bgp.NewNotificationErrorCode(bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_BAD_PEER_AS).String()
	if reason == "notification-received "+badAS {
		return "the router expects another AS number of this node: correct myASN or localASN, or the router"
	}
	for prefix, meaning := range map[string]string{"notification-received ": "the router ended it: ", "notification-sent ": "this speaker ended it: "} {
		if what, is := strings.CutPrefix(reason, prefix); is {
			return meaning + what
		}
	}
	switch reason {
	case "invalid-msg": // what gobgp makes of a notification in answer to its OPEN, and of anything else but an OPEN
		return "the router refused to open it, or said something else: see whether it expects another AS number of this node (myASN, localASN), and what its log says"
	case "hold-timer-expired":
		return "the router was silent for the hold time"
	case "read-failed", "write-failed":
		return "the connection broke"
	case "graceful-restart":
		return "the router restarts"
	}
	return reason
}

// noise begins what gobgp says of its own sockets and nobody needs to hear.
func noise() []string {
	return []string{"failed to close existing tcp connection", "Closed an accepted connection"}
}

func (l *serverLog) write(level slog.Level, msg string, fields gobgplog.Fields) {
	if refused, is := fields["Data"].(error); is && msg == "sent notification" {
		text := refused.Error()
		l.refused.Store(&text)
	}
	if reason, is := fields["reason"]; is && msg == "state changed" && fields["new"] == bgp.BGP_FSM_IDLE.String() {
		text := sentence(fmt.Sprint(reason))
		if refused := l.refused.Swap(nil); refused != nil && fmt.Sprint(reason) == "invalid-msg" {
			text = "this speaker refused what the router sent: " + *refused
		}
		l.reason.Store(&text)
	}
	to := l.to.Load()
	if to == nil || !to.Enabled(context.Background(), level) || slices.ContainsFunc(noise(), func(n string) bool { return strings.HasPrefix(msg, n) }) {
		return
	}
	args := make([]any, 0, 2*len(fields))
	for key, value := range fields {
		if key != "Topic" && key != "Key" {
			args = append(args, strings.ToLower(key[:1])+key[1:], value)
		}
	}
	to.Log(context.Background(), level, "gobgp says", append(args, "what", msg)...)
}

func (l *serverLog) Panic(msg string, fields gobgplog.Fields) {
	l.write(slog.LevelError, msg, fields)
	panic("gobgp: " + msg)
}

func (l *serverLog) Fatal(msg string, fields gobgplog.Fields) { l.Panic(msg, fields) }

func (l *serverLog) Error(msg string, fields gobgplog.Fields) { l.write(slog.LevelWarn, msg, fields) }
func (l *serverLog) Warn(msg string, fields gobgplog.Fields)  { l.write(slog.LevelWarn, msg, fields) }
func (l *serverLog) Info(msg string, fields gobgplog.Fields)  { l.write(slog.LevelDebug, msg, fields) }
func (l *serverLog) Debug(msg string, fields gobgplog.Fields) {
	l.write(slog.LevelDebug-4, msg, fields)
}

// SetLevel is of the interface; it is the receiving logger that has a level.
func (*serverLog) SetLevel(gobgplog.LogLevel) {}

// GetLevel has gobgp say everything that write may need.
func (*serverLog) GetLevel() gobgplog.LogLevel { return gobgplog.InfoLevel }
