"""What migrations say of columns so that all databases keep the same values."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
"""MySQL rounds to whole seconds unless told otherwise; the others keep microseconds."""
MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin",
}  # fmt: skip
"""Any Unicode whatever the server's default is; keys compare as they do elsewhere, by bytes."""
