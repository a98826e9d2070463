"""MLPerf's LoadGen over gRPC."""
