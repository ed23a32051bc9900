#!/usr/bin/env bash
# Fetches Apache Kafka for the tests, with Maven, into FOLDER/kafka. Quick when it is there.
# Usage: kafka.sh [FOLDER]    FOLDER: .runtime
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-.runtime}/kafka
pom=$here/kafka/pom.xml
cmp -s "$pom" "$folder/pom.xml" && exit 0

echo "kafka: fetching" >&2
rm -rf "$folder"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
timeout 600 mvn --quiet --batch-mode --file "$pom" dependency:copy-dependencies \
    -DoutputDirectory="$folder/libs"
# Last: what is broken off is begun anew.
cp "$pom" "$folder/pom.xml"
