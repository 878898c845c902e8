// Package dav serves one person's collections over WebDAV (RFC 4918), CardDAV (RFC 6352), CalDAV
// (RFC 4791) and collection sync (RFC 6578). It keeps no data: every answer is read through
// ledger.View and every change is one ledger.Update.
//
// Invariants: a body is stored and served byte for byte; no view is open while bytes go to a client;
// a fence that is not open is answered 503 with Retry-After and nothing else (F3); a path outside
// the principal's own account is answered 404 whether it exists or not.
//
// One file per method or REPORT; status.go maps errors to statuses; docs/rfc.tsv says which sections
// are kept and where, docs/clients.md what real programs depend on. Paths, for ever:
//
//	/dav/                     says who the principal is
//	/dav/principals/NAME/     the principal
//	/dav/NAME/                the home set of calendars, address books and files
//	/dav/NAME/COLLECTION/...  collections and their members; folders nest
package dav
