#!/bin/sh
# Two loads on a running server: load.sh HOST:PORT [SECONDS [MODEL]]
set -eu
url=$1
seconds=${2:-10}
model=${3:-resnet50}
corral-loadtest run --address "$url" --model "$model" --clients 4 --duration "$seconds"
corral-loadtest run --address "$url" --model "$model" --rate 20 --duration "$seconds"
