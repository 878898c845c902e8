package store

import "holdfast/internal/kind"

type kindIndex = kind.Index

// parse derives the indexed fields from a body.
var parse = kind.Parse
