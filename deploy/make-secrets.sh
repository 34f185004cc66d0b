#!/bin/sh
# Makes the passwords of docker-compose.yml: once, into deploy/secrets (or the directory that is named), which is kept
# out of version control and of the image. What is there already stays as it is.
set -eu

directory=${1:-$(dirname "$0")/secrets}
if [ -e "$directory/database_url" ]; then
    # Made by an earlier release, which had no such key.
    if [ ! -e "$directory/master_key" ]; then
        od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' > "$directory/master_key"
    fi
    echo "$directory has secrets already; delete it and the volumes for new ones" >&2
    exit 0
fi

# 32 bytes as hexadecimal: nothing in it must be escaped in a URL.
password() {
    od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'
}

# The directory keeps others on this machine out; the files themselves are read in containers by users whose ids this
# machine does not know.
umask 022
mkdir -p "$directory"
chmod 700 "$directory"

postgres=$(password)
nats=$(password)
printf '%s' "$postgres" > "$directory/postgres_password"
printf 'nats://everline:%s@nats:4222' "$nats" > "$directory/nats_url"
printf 'authorization {\n  user: everline\n  password: "%s"\n}\n' "$nats" > "$directory/nats_users.conf"
# What seals signing keys and second factors: kept with the backups of the database, which does not open without it.
printf '%s' "$(password)" > "$directory/master_key"
# Last: it says that all of them are there.
printf 'postgres://everline:%s@postgres:5432/everline' "$postgres" > "$directory/database_url"
echo "wrote $directory"
