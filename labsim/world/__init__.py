"""Clock, queue, stores, controllers and simulated machines put together: one thread, no locks inside."""
