"""The runtime of the simulated components: effects as data, queues with back-off, caches fed by watches, an interpreter."""
