package demo

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// lies are what may be done behind the demo's back before it compares: its journal does not hear of
// it. A verdict that is worth something says so.
var lies = map[string]func(ctx context.Context, r *remote, path string) error{
	"drop": func(ctx context.Context, r *remote, path string) error {
		_, err := r.do(ctx, http.MethodDelete, path, nil, nil)
		return err
	},
	"alter": func(ctx context.Context, r *remote, path string) error {
		a, err := r.do(ctx, http.MethodGet, path, nil, nil)
		if err != nil {
			return err
		}
		header := map[string]string{"Content-Type": contacts.contentType()}
		_, err = r.do(ctx, http.MethodPut, path, header, []byte(strings.Replace(string(a.body), "FN:Contact", "FN:contact", 1)))
		return err
	},
}

// Lies names the lies that can be planted.
func Lies() string { return strings.Join(slices.Sorted(maps.Keys(lies)), ", ") }

// lie does what Config.Lie says to the contact that was watched.
func (s *show) lie() {
	do := lies[s.cfg.Lie]
	if do == nil {
		return
	}
	if err := do(s.ctx, s.reader, s.watch.path); err != nil {
		s.problem("the lie %q could not be planted: %v", s.cfg.Lie, err)
		return
	}
	s.say("demo", "a lie is planted: %s", map[string]string{
		"drop":  "one acknowledged contact is removed behind everybody's back",
		"alter": "one letter of an acknowledged contact is changed behind everybody's back",
	}[s.cfg.Lie])
}
