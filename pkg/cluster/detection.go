package cluster

// Detection says what to do about a station on the segment that has an address which is announced, and that is no speaker's. The
// greater is the stricter.
type Detection uint8

// What can be done.
const (
	DetectOff     Detection = iota // nothing
	DetectWarn                     // say so
	DetectEnforce                  // do not announce a new address while it is there, and say so
)

// ParseDetection reads the API's name of a Detection; what it does not know is Warn, the default.
func ParseDetection(name string) Detection {
	for _, d := range []Detection{DetectOff, DetectEnforce} {
		if d.String() == name {
			return d
		}
	}
	return DetectWarn
}

// String returns the name in the API.
func (d Detection) String() string {
	switch d {
	case DetectWarn:
		return "Warn"
	case DetectEnforce:
		return "Enforce"
	case DetectOff:
	}
	return "Off"
}

// MarshalText writes the name in the API.
func (d Detection) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Detection) UnmarshalText(text []byte) error {
	*d = ParseDetection(string(text))
	return nil
}
