"""Celery's own command line."""

import sys

from celery.__main__ import main

sys.exit(main())
