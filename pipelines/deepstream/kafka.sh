#!/usr/bin/env bash
# Counts go to Kafka by DeepStream's own nvmsgconv and nvmsgbroker: BROKER="host;9092"
# TOPIC=vehicles. Each message's customMessage holds our report as JSON. Other brokers:
# PROTOCOL=/opt/nvidia/deepstream/deepstream/lib/libnvds_mqtt_proto.so, ...
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
: "${BROKER:?BROKER=\"host;9092\"}"
exec gst-launch-1.0 -e "${mux[@]}" ! nvinfer "config-file-path=$infer" "batch-size=$#" \
    ! vehiclecounternvmm source=tensor-meta "config-file-path=$here/sources.txt" message-blob=true \
    ! nvmsgconv "config=$here/msgconv.txt" payload-type=1 msg2p-newapi=true frame-interval=30 \
    ! nvmsgbroker "proto-lib=${PROTOCOL:-/opt/nvidia/deepstream/deepstream/lib/libnvds_kafka_proto.so}" "conn-str=$BROKER" "topic=${TOPIC:-vehicles}" \
    sync=false "${sources[@]}"
