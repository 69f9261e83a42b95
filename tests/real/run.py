#!/usr/bin/env python3
"""Runs every test with real components and prints one tally on the last line.

run.py --exporter target/dist/servicefabric-backup-exporter --parts target/ci/parts
"""

import sys

from dashboard_schema import dashboard_schema
from dashboards import dashboards
from demo_scrape import demo_scrape, sizes_scrape
from harness import main
from microsoft_client import microsoft_client
from page_checks import page_checks
from paging import paging, paging_configuration
from rule_cost import rule_cost
from rules import rules
from secured_cluster import secured_cluster
from sfctl_client import sfctl_client
from slow_readers import slow_readers
from web_config import secured_scrapes, web_config_validation

if __name__ == "__main__":
    sys.exit(
        main(
            __doc__.splitlines()[0],
            microsoft_client, sfctl_client, page_checks, demo_scrape, sizes_scrape, slow_readers, web_config_validation,
            secured_scrapes, secured_cluster, rules, rule_cost, dashboard_schema, dashboards, paging_configuration,
            # This test mostly waits.
            parallel=[paging],
        )  # fmt: skip
    )
