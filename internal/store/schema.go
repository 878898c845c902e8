package store

import "strings"

// schemaVersion is the version of the tables below, kept in meta and in user_version. A program
// refuses a store with a higher one.
const schemaVersion = 1

// applicationID marks the file as Holdfast's: "HOLD" in ASCII.
const applicationID = 0x484f4c44

// partSize is how many bytes of a payload one row holds, so that reading a body never reads a
// whole change of up to 16 MiB. It is part of the format.
const partSize = 128 << 10

// dialect is what differs between SQL engines. All other SQL is the same text.
type dialect struct {
	strict    string // table option: values must be of the column's type
	clustered string // table option: rows lie in the primary key
	integer   string // type of a 64-bit integer
	blob      string // type of a byte string
	text      string // type of a string that sorts bytewise
	// concat is the aggregate of all thin strings and names of the rows of a subquery, in its order.
	concat string
	// placeholder rewrites the ?N of a query.
	placeholder func(query string) string
}

var sqlite = dialect{
	strict:      " STRICT",
	clustered:   " STRICT, WITHOUT ROWID",
	integer:     "INTEGER",
	blob:        "BLOB",
	text:        "TEXT",
	concat:      "CAST(group_concat(thin || name, '') AS BLOB)",
	placeholder: func(q string) string { return q },
}

// schema returns the statements that make the tables, one by one.
//
// Every primary key and unique index leads with account_id, so that an account is the unit of
// locking and sharding; meta is the exception, it is about the whole store.
func (d dialect) schema() []string {
	r := strings.NewReplacer("{int}", d.integer, "{strict}", d.strict, "{clustered}", d.clustered, "{blob}", d.blob, "{text}", d.text)
	var out []string
	for _, s := range tables {
		out = append(out, r.Replace(s))
	}
	return out
}

var tables = []string{
	// What the store is: server id, store id, schema version, term. Values are little-endian bytes.
	`CREATE TABLE meta (
	name  {text} NOT NULL PRIMARY KEY,
	value {blob} NOT NULL
){clustered}`,

	// One row an account: its head, and what it holds now.
	`CREATE TABLE account (
	account_id {int} NOT NULL PRIMARY KEY,
	epoch      {int} NOT NULL,
	seq        {int} NOT NULL,
	hash       {blob} NOT NULL,
	resources  {int} NOT NULL,
	bytes      {int} NOT NULL,
	erased     {int} NOT NULL
){strict}`,

	// The epochs after the first: which change began each, and up to which seq the lost history was this one.
	`CREATE TABLE epoch (
	account_id {int} NOT NULL,
	epoch      {int} NOT NULL,
	seq        {int} NOT NULL,
	common     {int} NOT NULL,
	PRIMARY KEY (account_id, epoch)
){clustered}`,

	// Append-only: the changes, the small bodies inside. payload holds the first 128 KiB.
	`CREATE TABLE change (
	account_id  {int} NOT NULL,
	seq         {int} NOT NULL,
	hash        {blob} NOT NULL,
	term_number {int} NOT NULL,
	term_random {int} NOT NULL,
	time        {int} NOT NULL,
	payload     {blob} NOT NULL
){strict}`,
	`CREATE UNIQUE INDEX change_seq ON change (account_id, seq)`,

	// The rest of large payloads: part n begins at byte n * 128 KiB.
	`CREATE TABLE change_part (
	account_id {int} NOT NULL,
	seq        {int} NOT NULL,
	part       {int} NOT NULL,
	bytes      {blob} NOT NULL
){strict}`,
	`CREATE UNIQUE INDEX change_part_seq ON change_part (account_id, seq, part)`,

	// The newest versions. uid_key is 0 without a UID; thin has all other fields (see thin.go).
	`CREATE TABLE resource (
	account_id    {int} NOT NULL,
	collection_id {int} NOT NULL,
	name          {text} NOT NULL,
	seq           {int} NOT NULL,
	size          {int} NOT NULL,
	uid_key       {int} NOT NULL,
	thin          {blob} NOT NULL,
	PRIMARY KEY (account_id, collection_id, name)
){clustered}`,
	`CREATE INDEX resource_uid ON resource (account_id, collection_id, uid_key) WHERE uid_key <> 0`,

	// Superseded and deleted versions: there from from_seq on, gone or replaced from to_seq on.
	`CREATE TABLE history (
	account_id    {int} NOT NULL,
	collection_id {int} NOT NULL,
	name          {text} NOT NULL,
	to_seq        {int} NOT NULL,
	from_seq      {int} NOT NULL,
	size          {int} NOT NULL,
	uid_key       {int} NOT NULL,
	thin          {blob} NOT NULL,
	PRIMARY KEY (account_id, collection_id, name, to_seq)
){clustered}`,

	// Append-only: which members a change touched, in order of seq; the name '' is the collection
	// itself. digest is that of the collection after the change, in the last row of each seq, else empty.
	`CREATE TABLE changed (
	account_id    {int} NOT NULL,
	collection_id {int} NOT NULL,
	seq           {int} NOT NULL,
	name          {text} NOT NULL,
	digest        {blob} NOT NULL,
	PRIMARY KEY (account_id, collection_id, seq, name)
){clustered}`,

	`CREATE TABLE collection (
	account_id    {int} NOT NULL,
	collection_id {int} NOT NULL,
	parent        {int} NOT NULL,
	name          {text} NOT NULL,
	kind          {int} NOT NULL,
	seq           {int} NOT NULL,
	created       {int} NOT NULL,
	modified      {int} NOT NULL,
	props         {blob} NOT NULL,
	PRIMARY KEY (account_id, collection_id)
){clustered}`,
	`CREATE UNIQUE INDEX collection_name ON collection (account_id, parent, name)`,

	`CREATE TABLE collection_history (
	account_id    {int} NOT NULL,
	collection_id {int} NOT NULL,
	to_seq        {int} NOT NULL,
	from_seq      {int} NOT NULL,
	parent        {int} NOT NULL,
	name          {text} NOT NULL,
	kind          {int} NOT NULL,
	created       {int} NOT NULL,
	modified      {int} NOT NULL,
	props         {blob} NOT NULL,
	PRIMARY KEY (account_id, collection_id, to_seq)
){clustered}`,
	`CREATE INDEX collection_history_seq ON collection_history (account_id, to_seq)`,
}
