package server

import (
	"context"
	"time"

	"holdfast/internal/upload"
)

// sweepEvery is how often the pieces of uploads that nobody goes on with are looked for.
const sweepEvery = time.Hour

// keepUploads opens the area where the pieces of large files lie, and sweeps it until ctx ends.
func (s *server) keepUploads(ctx context.Context) {
	s.uploads = upload.New(upload.Config{
		Dir: s.cfg.Dir, Keep: s.cfg.Settings.UploadKeep, MaxBytes: 2 * s.cfg.Settings.MaxUpload, Log: s.cfg.Log,
	})
	ctx, s.endSweep = context.WithCancel(ctx)
	s.swept = make(chan struct{})
	go func() {
		defer close(s.swept)
		tick := time.NewTicker(sweepEvery)
		defer tick.Stop()
		for {
			if _, err := s.uploads.Sweep(); err != nil {
				s.log.Warn("remove old uploads", "err", err) // it is tried again; nothing but room is lost
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// stopUploads waits until nothing touches the pieces any more.
func (s *server) stopUploads() {
	if s.swept != nil {
		s.endSweep()
		<-s.swept
	}
}
