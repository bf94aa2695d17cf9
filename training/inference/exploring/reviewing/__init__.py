"""Review while a page is open: queues of what is judged, and the verdicts."""
