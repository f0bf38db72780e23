"""Routes below /prometheus/api/v1/."""

from __future__ import annotations

from django.urls import path

from metrics.prometheus_api import views

urlpatterns = [
    path("query", views.QueryView.as_view()),
    path("query_range", views.QueryRangeView.as_view()),
    path("series", views.SeriesView.as_view()),
    path("labels", views.LabelsView.as_view()),
    path("label/<str:name>/values", views.LabelValuesView.as_view()),
    path("metadata", views.MetadataView.as_view()),
    path("status/buildinfo", views.BuildInfoView.as_view()),
    path("<path:path>", views.not_there),
]
