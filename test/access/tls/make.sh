#!/bin/sh
# Makes the certificates that the tests of TLS use; they are kept, so that tests need no openssl. They are worth nothing
# anywhere else. `openssl ca`, because it alone lets one choose when they begin and end.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
touch "$work/index"
ALWAYS='-startdate 20200101000000Z -enddate 21200101000000Z'
cat > "$work/ca.cnf" <<CONFIG
[ca]
default_ca = it
[it]
database = $work/index
new_certs_dir = $work
rand_serial = yes
default_md = sha256
unique_subject = no
policy = any
[any]
commonName = supplied
CONFIG

# name, common name, extensions, when, and how it is signed
certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$1.key" -out "$work/$1.csr"
  printf "$3" > "$work/$1.ext"
  # shellcheck disable=SC2086
  openssl ca -batch -notext -config "$work/ca.cnf" -in "$work/$1.csr" -extfile "$work/$1.ext" -out "$1.pem" $4 $5
}

AUTHORITY='basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n'
SERVER='extendedKeyUsage=serverAuth\nsubjectAltName='
HERE="${SERVER}DNS:localhost,IP:127.0.0.1,IP:::1\n"
CLIENT='extendedKeyUsage=clientAuth\n'
OURS='-cert ca.pem -keyfile ca.key'

certificate ca 'Millrace test authority' "$AUTHORITY" "$ALWAYS" '-selfsign -keyfile ca.key'
certificate stranger-ca 'A stranger' "$AUTHORITY" "$ALWAYS" '-selfsign -keyfile stranger-ca.key'
certificate server localhost "$HERE" "$ALWAYS" "$OURS"
certificate renewed localhost "$HERE" "$ALWAYS" "$OURS"
certificate elsewhere elsewhere.example "${SERVER}DNS:elsewhere.example\n" "$ALWAYS" "$OURS"
certificate expired localhost "$HERE" '-startdate 20200101000000Z -enddate 20200102000000Z' "$OURS"
certificate client worker-1 "$CLIENT" "$ALWAYS" "$OURS"
certificate stranger worker-1 "$CLIENT" "$ALWAYS" '-cert stranger-ca.pem -keyfile stranger-ca.key'
# Whoever needs another one makes all anew.
rm -r ca.key stranger-ca.key "$work"
