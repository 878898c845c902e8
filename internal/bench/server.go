package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/server"
)

// logger shows what somebody must act on and nothing else.
func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

// process is the server that is measured, a process of its own.
type process struct {
	addr    string
	pid     int
	started time.Duration // from its start to its first true answer
	atStart int64         // resident bytes right then
	cmd     *exec.Cmd
}

// startServer starts this program again as the server and waits for its first true answer.
func startServer(ctx context.Context, dir, profile string, u *user) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return startBuild(ctx, self, dir, profile, u)
}

// startBuild is startServer with another build of this program.
func startBuild(ctx context.Context, self, dir, profile string, u *user) (*process, error) {
	began := time.Now()
	cmd := exec.CommandContext(ctx, self, "-serve", dir, "-profile", profile)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("connect to server process: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start server process: %w", err)
	}
	s := &process{cmd: cmd, pid: cmd.Process.Pid}
	if s.addr, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		s.stop()
		return nil, fmt.Errorf("read address of server process: %w", err)
	}
	s.addr = strings.TrimSpace(s.addr)
	for {
		if err = s.ask(u); err == nil {
			s.started, s.atStart = time.Since(began), rss(s.pid)
			return s, nil
		}
		if ctx.Err() != nil || time.Since(began) > 10*time.Minute {
			s.stop()
			return nil, fmt.Errorf("wait for first answer: %w", err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (s *process) ask(u *user) error {
	c, err := dialServer(s.addr, u.name, u.password)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = syncToken(c)
	return err
}

func (s *process) rss() int64 { return rss(s.pid) }

// stop ends the server process.
func (s *process) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait() // it is told to end; how it does is not measured
}

// serverDir is the data directory below the run's temporary one.
func serverDir(dir string) string { return filepath.Join(dir, "server") }

// serve is the server process, the same as `holdfast serve`. It writes its address to standard output.
func serve(ctx context.Context, dir string) error {
	c, err := config.Load(serverDir(dir))
	if err != nil {
		return err
	}
	return server.Run(ctx, server.Config{
		Dir: serverDir(dir), Settings: c, Version: "bench", Log: logger(),
		Ready: func(urls []string) {
			fmt.Println(strings.TrimSuffix(strings.TrimPrefix(urls[0], "http://"), "/"))
		},
	})
}
