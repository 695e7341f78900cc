"""Celery's own command line."""

from celery.bin.celery import main

main(prog_name="celery")
