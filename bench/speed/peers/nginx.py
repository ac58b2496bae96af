"""nginx: proxy_cache with secure_link, access log on (buffered), one worker."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from bench.speed.servers import Server, Site, free_port, program, running, wait_until_serving

NAME = "nginx"
_CONFIG = """
daemon off; user root; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log {folder}/access.log combined buffer=64k flush=1s;
  sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 300s;
  proxy_temp_path {folder}/temp; client_body_temp_path {folder}/body; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s; open_file_cache max=1000;
  proxy_cache_path {folder}/cache keys_zone=objects:16m max_size=1g;
  server {{
    listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl;
    ssl_certificate {pem}; ssl_certificate_key {pem}; ssl_protocols TLSv1.3;
    location / {{
      secure_link $arg_md5,$arg_expires;
      secure_link_md5 "$secure_link_expires$uri bench";
      if ($secure_link = "") {{ return 403; }}
      if ($secure_link = "0") {{ return 410; }}
      proxy_pass http://127.0.0.1:{upstream}; proxy_cache objects; proxy_cache_key $uri; proxy_cache_valid 200 1h;
    }}
  }}
}}
"""


@contextmanager
def server(site: Site, names: dict[str, str]) -> Iterator[Server | None]:
    command = program("nginx")
    if command is None:
        yield None
        return
    plain, tls = free_port(), free_port()
    file = site.folder / "nginx.conf"
    file.write_text(_CONFIG.format(folder=site.folder, pem=site.pem, plain=plain, tls=tls, upstream=site.upstream))
    with running([command, "-p", str(site.folder), "-c", str(file)], site.folder) as pid:
        wait_until_serving(("127.0.0.1", plain))
        targets = {name: _signed(path) for name, path in names.items()}
        yield Server(NAME, "proxy_cache, secure_link, log", pid, ("127.0.0.1", plain), ("127.0.0.1", tls), targets)


def _signed(path: str, expires: int = 4_000_000_000) -> str:
    digest = base64.urlsafe_b64encode(hashlib.md5(f"{expires}{path} bench".encode()).digest()).rstrip(b"=").decode()
    return f"{path}?md5={digest}&expires={expires}"
