"""The page of a service for people: its operations, as OpenAPI has them, without anything from another server."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

__all__ = ["page"]

_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}}
pre{{background:#8882;padding:.7rem;overflow:auto}}td{{padding:.1rem 1rem .1rem 0;vertical-align:top}}</style></head>
<body><h1>{title}</h1><p>The same for programs: <a href="openapi.json">openapi.json</a></p>"""
_EXAMPLES = {
    "images": "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' URL/predict\n"
    "curl -F image=@one.jpg -F image=@two.jpg URL/predict",
    "texts": """curl -d '{"rows": ["a text", "another"]}' -H 'Content-Type: application/json' URL/predict""",
    "numbers": """curl -d '{"rows": [[0.5, 1.5]]}' -H 'Content-Type: application/json' URL/predict""",
}


def page(openapi: Mapping[str, Any], kind: str) -> str:
    """Return the HTML for an OpenAPI description, with an example for rows of this kind."""
    title = escape(openapi["info"]["title"])
    return "\n".join([_HEAD.format(title=title), *_operations(openapi, kind), *_schemas(openapi), "</body></html>"])


def _operations(openapi: Mapping[str, Any], kind: str) -> Iterator[str]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
            yield f"<p>{escape(operation.get('description', ''))}</p>"
            if "requestBody" in operation:
                types = ", ".join(f"<code>{escape(name)}</code>" for name in operation["requestBody"]["content"])
                yield f"<p>Body: {types}</p><pre>{escape(_EXAMPLES[kind])}</pre>"
            yield _table((status, answer["description"]) for status, answer in operation["responses"].items())


def _schemas(openapi: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in openapi.get("components", {}).get("schemas", {}).items():
        if "properties" in schema:
            yield f"<h2>{escape(name)}</h2><p>{escape(schema.get('description', ''))}</p>"
            yield _table((field, said.get("description", "")) for field, said in schema["properties"].items())


def _table(rows: Any) -> str:
    cells = "".join(f"<tr><td><code>{escape(str(name))}</code></td><td>{escape(said)}</td></tr>" for name, said in rows)
    return f"<table>{cells}</table>"
