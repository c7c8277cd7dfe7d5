"""What a tenant is owed, read from the log as its owner would."""

from storage.deliveries import Deliveries
from storage.delivery import Delivery
from storage.delivery_log import Wanted
from storage.redis_client import Commands


async def owed(commands: Commands, tenant: str = "acme") -> list[Delivery]:
    """Return a tenant's deliveries, the newest first."""
    page = await Deliveries(commands).page(tenant, Wanted(), limit=1000)
    return list(page.deliveries)
