package obs

import "runtime/debug"

// stamped is the version of a release.
//
//stamp:ldflags of e2e/images
var stamped string //nolint:gochecknoglobals // what the linker can set is a variable

// Version names the build: the version that a release was stamped with, or the module version or revision that it was built from, as the Go
// toolchain recorded it.
func Version() string {
	if stamped != "" {
		return stamped
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}
