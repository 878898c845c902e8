package main

import (
	"fmt"
	"strings"

	"holdfast/internal/config"
	"holdfast/internal/server"
)

type configCommand struct {
	Check    configCheck    `cmd:"" help:"Say what is wrong in the settings."`
	Describe configDescribe `cmd:"" help:"Explain every setting, with its value."`
}

type configCheck struct{ dataFlag }

// Help teaches.
func (configCheck) Help() string {
	return `Reads DIR/holdfast.conf as a start would and says everything that is wrong with it, by line. Nothing is changed.

  holdfast config check --data /srv/holdfast`
}

// Run checks the settings.
func (c *configCheck) Run(s *streams) error {
	dir, err := c.dir()
	if err != nil {
		return err
	}
	settings, err := config.Load(dir)
	if err != nil {
		return err
	}
	if err := server.CheckTLS(dir, settings); err != nil {
		return err
	}
	if err := settings.CheckSecrets(dir); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s/%s: well\n", dir, config.FileName)
	return err
}

type configDescribe struct {
	jsonFlag
	Data string `placeholder:"DIR" env:"HOLDFAST_DATA" help:"Show the values of this data directory; without it the defaults."`
}

// Help teaches.
func (configDescribe) Help() string {
	return `Explains every setting of holdfast.conf: what it does, its default, and the value that counts.

  holdfast config describe
  holdfast config describe --data /srv/holdfast`
}

// Run explains the settings.
func (c *configDescribe) Run(s *streams) error {
	settings := config.Default()
	if c.Data != "" {
		dir, err := dataFlag{Data: c.Data}.dir()
		if err != nil {
			return err
		}
		if settings, err = config.Load(dir); err != nil {
			return err
		}
	}
	list := config.Describe(settings)
	if c.JSON {
		return printJSON(s.out, list)
	}
	for i, k := range list {
		if i > 0 {
			fmt.Fprintln(s.out)
		}
		repeat := ""
		if k.Repeat {
			repeat = " (repeatable)"
		}
		fmt.Fprintf(s.out, "%s%s\n  %s\n  default:   %s\n  effective: %s\n", k.Key, repeat, k.About, shown(k.Default), shown(k.Effective))
	}
	return nil
}

func shown(values []string) string {
	if len(values) == 0 {
		return "not set"
	}
	return strings.Join(values, ", ")
}
