from unlearn.io.columns import columns
from unlearn.io.tables import Table

SPLIT = Table("split", columns("id: int64, role: string"), ["id"])
