"""The runtime of the simulated components: effects, queues with back-off, caches fed by watches, an interpreter."""
