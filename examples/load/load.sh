#!/bin/sh
# Two loads on a running server: load.sh HOST:PORT [SECONDS]
set -eu
url=$1
seconds=${2:-10}
corral-loadtest run --address "$url" --clients 4 --duration "$seconds"
corral-loadtest run --address "$url" --rate 20 --duration "$seconds"
