"""What both method families share: metrics, data sets, compiled training, run state, reports."""
