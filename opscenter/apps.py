"""The composition application: supervisor, commands and the pages that mix apps."""

from django.apps import AppConfig


class OpsCenterConfig(AppConfig):
    """Settings, routes, processes."""

    name = "opscenter"
