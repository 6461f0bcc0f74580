"""The audit's page: every finding worst first, with pictures to judge it by. One HTML file that stands alone; see `page`."""
