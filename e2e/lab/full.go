package lab

import (
	"context"
	"errors"
)

// LoadImages gives every node the container images of these tarballs.
func (l *Lab) LoadImages(_ context.Context, _ ...string) error {
	if l.opts.Light {
		return errors.New("load images: this lab is light: its nodes run no containers")
	}
	return errors.New("load images: not yet")
}
