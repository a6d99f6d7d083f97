"""The async engine: schedulers, queues, worker processes."""
