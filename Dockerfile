# One image for every process of the centre; docker-compose.yml says which one a container runs.
FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements/server.txt .
RUN python -m venv /venv && /venv/bin/pip install --require-hashes -r server.txt
COPY manage.py pyproject.toml /app/
COPY opscenter /app/opscenter
COPY clusters /app/clusters
COPY metrics /app/metrics
COPY agent /app/agent
COPY templates /app/templates
COPY static /app/static
COPY docs /app/docs
# Collected here, because compressing takes too long for a start. The key made on the way is thrown away.
RUN cd /app && OPSCENTER_DATA_DIR=/tmp/build OPSCENTER_STATIC_ROOT=/app/staticfiles \
    /venv/bin/python manage.py collectstatic --noinput && \
    /venv/bin/python -m compileall -q /app && rm -rf /tmp/build

FROM python:3.12-slim-bookworm
RUN groupadd --gid 10001 opscenter && \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin opscenter && \
    install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    OPSCENTER_DATA_DIR=/data OPSCENTER_STATIC_ROOT=/app/staticfiles OPSCENTER_HOST=0.0.0.0 OPSCENTER_HUB_HOST=0.0.0.0
WORKDIR /app
USER 10001:10001
VOLUME /data
EXPOSE 8000 2222 2280
# Without a name it checks what the container runs: docker-compose.yml names it, and how often.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["python", "-I", "-S", "opscenter/probe.py"]
ENTRYPOINT ["python", "manage.py"]
CMD ["up", "--only", "web"]
