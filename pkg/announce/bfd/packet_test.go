package bfd

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// example has other bytes in every field.
func example() packet {
	return packet{
		Diagnostic: NeighborSignaledDown, State: Up, Poll: true, DetectMultiplier: 3,
		MyDiscriminator: 0x01020304, YourDiscriminator: 0x05060708,
		DesiredMinTx: 300 * time.Millisecond, RequiredMinRx: 50 * time.Millisecond, RequiredMinEchoRx: 10 * time.Millisecond,
	}
}

// wire is example as RFC 5880 section 4.1 draws it.
func wire() []byte {
	return []byte{
		0x23, 0xe0, 3, 24,
		1, 2, 3, 4,
		5, 6, 7, 8,
		0x00, 0x04, 0x93, 0xe0,
		0x00, 0x00, 0xc3, 0x50,
		0x00, 0x00, 0x27, 0x10,
	}
}

func TestAPacketIsWrittenAsTheRFCDrawsIt(t *testing.T) {
	if got := example().append(nil); !slices.Equal(got, wire()) {
		t.Errorf("written\n%x, want\n%x", got, wire())
	}
	got, err := parse(wire())
	if err != nil || got != example() {
		t.Errorf("read %+v, %v, want %+v", got, err, example())
	}
}

func TestAPacketThatBreaksTheRFCIsDiscarded(t *testing.T) {
	at := func(i int, values ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[i:], values); return b }
	}
	for _, row := range []struct {
		name  string
		spoil func([]byte) []byte
		want  error
	}{
		{"nothing is wrong", at(0), nil},
		{"bytes after its end are not its own", func(b []byte) []byte { return append(b, 1, 2, 3) }, nil},
		{"cut off", func(b []byte) []byte { return b[:23] }, errTruncated},
		{"empty", func([]byte) []byte { return nil }, errTruncated},
		{"version 0", at(0, 0x03), errVersion},
		{"version 2", at(0, 0x43), errVersion},
		{"Length is too small", at(3, 23), errLength},
		{"Length is too small for one with authentication", at(1, 0xe4, 3, 25), errLength},
		{"Length is more than came", at(3, 25), errTruncated},
		{"Detect Mult is 0", at(2, 0), errMultiplier},
		{"Multipoint", at(1, 0xe1), errMultipoint},
		{"My Discriminator is 0", at(4, 0, 0, 0, 0), errDiscriminator},
		{"Your Discriminator is 0 in Up", at(8, 0, 0, 0, 0), errNoSession},
		{"Your Discriminator is 0 in Init", func(b []byte) []byte { return at(8, 0, 0, 0, 0)(at(1, 0x80)(b)) }, errNoSession},
		{"Your Discriminator is 0 in Down", func(b []byte) []byte { return at(8, 0, 0, 0, 0)(at(1, 0x40)(b)) }, nil},
		{"Your Discriminator is 0 in AdminDown", func(b []byte) []byte { return at(8, 0, 0, 0, 0)(at(1, 0x00)(b)) }, nil},
		{"authenticated, and there is no key", func(b []byte) []byte { return append(at(1, 0xe4, 3, 28)(b), 1, 4, 1, 0) }, errAuthenticated},
		{"Poll and Final", at(1, 0xf0), errPollAndFinal},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := parse(row.spoil(wire())); !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
}

func FuzzPacket(f *testing.F) {
	f.Add(wire())
	f.Add(wire()[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parse(b)
		if err != nil {
			return
		}
		again, err := parse(p.append(nil))
		if err != nil || again != p {
			t.Errorf("read %+v, written and read again %+v, %v", p, again, err)
		}
	})
}
