#!/usr/bin/env bash
# Whether this container does its work. Without arguments, or `service [PORT]`: the service of
# `vehicle-count run` says that it counts. `count [FILE [SECONDS]]`, for `demo`: the newest lines of
# FILE are counts, and younger than SECONDS. `cameras [PORT]`: the RTSP server answers.
# Usage: health [service [PORT] | count [FILE [SECONDS]] | cameras [PORT]]
set -euo pipefail
sick() {
    echo "not healthy: $*"
    exit 1
}
case ${1:-service} in
    service)
        # The port that the configuration of the container's command names.
        listen='s/^[[:space:]]*listen[[:space:]]*=[[:space:]]*"[^"]*:\([0-9]\{1,5\}\)".*/\1/p'
        port=${2:-$(sed -n "$listen" /config/counter.toml 2>/dev/null | head -n 1)}
        port=${port:-8080}
        { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || sick "nobody listens on port $port"
        printf 'GET /api/v1/health/ready HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3
        answer=$(timeout 5 cat <&3) || sick "the service on port $port does not answer"
        [[ $answer == HTTP/1.?" 200 "* ]] || sick "the service says: ${answer##*$'\n'}"
        echo "the service counts"
        ;;
    count)
        file=${2:-/results/demo.jsonl} limit=${3:-60}
        [ -s "$file" ] || sick "nothing was counted yet into $file"
        age=$(($(date +%s) - $(stat -c %Y "$file")))
        [ "$age" -le "$limit" ] ||
            sick "the last line of $file is $age s old: no camera sends, or the counter stands"
        tail -n 100 "$file" | grep -q '"stale":false' ||
            sick "the last 100 lines of $file repeat old counts: the engine does not follow"
        echo "last count $age s ago"
        ;;
    cameras)
        port=${2:-8554}
        { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || sick "nobody listens on port $port"
        printf 'OPTIONS rtsp://127.0.0.1:%s/ RTSP/1.0\r\nCSeq: 1\r\n\r\n' "$port" >&3
        read -rt 5 answer <&3 || sick "the RTSP server on port $port does not answer"
        [[ $answer == "RTSP/1.0 200"* ]] || sick "the RTSP server says ${answer%$'\r'}"
        echo "cameras answer"
        ;;
    *) echo "Usage: health [service [PORT] | count [FILE [SECONDS]] | cameras [PORT]]" >&2; exit 2 ;;
esac
