"""What stands around a restore job in production: profiles of workers, prices, plans, launches and schedules."""
