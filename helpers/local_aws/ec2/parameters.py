"""The parameters of EC2's operations, as they are named on the wire: those that are carried out, and no others."""

from helpers.local_aws.ec2.query import Schema, blob, boolean, integer, one_of, text

_DRY = {"DryRun": boolean}
_FILTERS = {"Filter": [{"Name": text, "Value": [text]}]}
_PAGES = {"MaxResults": integer, "NextToken": text}
_TAGS = [{"Key": text, "Value": text}]
_DESCRIBE = {**_DRY, **_FILTERS, **_PAGES}
_PERMISSIONS = [
    {
        "IpProtocol": text,
        "FromPort": integer,
        "ToPort": integer,
        "Groups": [{"GroupId": text, "UserId": text, "Description": text}],
        "IpRanges": [{"CidrIp": text, "Description": text}],
        "Ipv6Ranges": [{"CidrIpv6": text, "Description": text}],
    }
]
_SIMPLE_RULE = {"IpProtocol": text, "FromPort": integer, "ToPort": integer, "CidrIp": text}


def _tagged(kind: str) -> list[Schema]:
    return [{"ResourceType": one_of(*kind.split()), "Tag": _TAGS}]


OPERATIONS: dict[str, Schema] = {
    "RunInstances": {
        **_DRY,
        "MinCount": integer,
        "MaxCount": integer,
        "ImageId": text,
        "InstanceType": text,
        "SubnetId": text,
        "SecurityGroupId": [text],
        "Placement": {"AvailabilityZone": text, "Tenancy": one_of("default")},
        "NetworkInterface": [
            {
                "DeviceIndex": integer,
                "SubnetId": text,
                "SecurityGroupId": [text],
                "AssociatePublicIpAddress": boolean,
                "DeleteOnTermination": boolean,
            }
        ],
        "UserData": blob,
        "IamInstanceProfile": {"Name": text, "Arn": text},
        "BlockDeviceMapping": [
            {
                "DeviceName": text,
                "Ebs": {
                    "VolumeSize": integer,
                    "VolumeType": one_of("gp2", "gp3"),
                    "Iops": integer,
                    "Throughput": integer,
                    "Encrypted": boolean,
                    "DeleteOnTermination": boolean,
                },
            }
        ],
        "TagSpecification": _tagged("instance volume"),
        "MetadataOptions": {
            "HttpTokens": one_of("optional", "required"),
            "HttpEndpoint": one_of("enabled", "disabled"),
            "HttpPutResponseHopLimit": integer,
            "InstanceMetadataTags": one_of("enabled", "disabled"),
        },
        "InstanceInitiatedShutdownBehavior": one_of("stop", "terminate"),
        "ClientToken": text,
    },
    "TerminateInstances": {**_DRY, "InstanceId": [text]},
    "DescribeInstances": {**_DESCRIBE, "InstanceId": [text]},
    "DescribeInstanceStatus": {**_DESCRIBE, "InstanceId": [text], "IncludeAllInstances": boolean},
    "GetConsoleOutput": {**_DRY, "InstanceId": text, "Latest": boolean},
    "DescribeVolumes": {**_DESCRIBE, "VolumeId": [text]},
    "DescribeIamInstanceProfileAssociations": {**_FILTERS, **_PAGES, "AssociationId": [text]},
    "CreateTags": {**_DRY, "ResourceId": [text], "Tag": _TAGS},
    "DeleteTags": {**_DRY, "ResourceId": [text], "Tag": _TAGS},
    "DescribeTags": _DESCRIBE,
    "DescribeImages": {**_DESCRIBE, "ImageId": [text], "Owner": [text], "IncludeDeprecated": boolean},
    "DescribeInstanceTypes": {**_DESCRIBE, "InstanceType": [text]},
    "DescribeInstanceTypeOfferings": {**_DESCRIBE, "LocationType": one_of("region", "availability-zone")},
    "DescribeAvailabilityZones": {
        **_DRY,
        **_FILTERS,
        "ZoneName": [text],
        "ZoneId": [text],
        "AllAvailabilityZones": boolean,
    },
    "DescribeVpcs": {**_DESCRIBE, "VpcId": [text]},
    "DescribeSubnets": {**_DESCRIBE, "SubnetId": [text]},
    "DescribeSecurityGroups": {**_DESCRIBE, "GroupId": [text], "GroupName": [text]},
    "DescribeSecurityGroupRules": {**_DESCRIBE, "SecurityGroupRuleId": [text]},
    "CreateSecurityGroup": {
        **_DRY,
        "GroupName": text,
        "GroupDescription": text,
        "VpcId": text,
        "TagSpecification": _tagged("security-group"),
    },
    "DeleteSecurityGroup": {**_DRY, "GroupId": text, "GroupName": text},
    "AuthorizeSecurityGroupIngress": {
        **_DRY,
        **_SIMPLE_RULE,
        "GroupId": text,
        "GroupName": text,
        "IpPermissions": _PERMISSIONS,
    },
    "AuthorizeSecurityGroupEgress": {**_DRY, "GroupId": text, "IpPermissions": _PERMISSIONS},
    "RevokeSecurityGroupIngress": {
        **_DRY,
        **_SIMPLE_RULE,
        "GroupId": text,
        "GroupName": text,
        "IpPermissions": _PERMISSIONS,
        "SecurityGroupRuleId": [text],
    },
    "RevokeSecurityGroupEgress": {
        **_DRY,
        "GroupId": text,
        "IpPermissions": _PERMISSIONS,
        "SecurityGroupRuleId": [text],
    },
}

REQUIRED: dict[str, tuple[str, ...]] = {
    "RunInstances": ("ImageId", "MinCount", "MaxCount"),
    "TerminateInstances": ("InstanceId",),
    "GetConsoleOutput": ("InstanceId",),
    "CreateTags": ("ResourceId", "Tag"),
    "DeleteTags": ("ResourceId",),
    "CreateSecurityGroup": ("GroupName", "GroupDescription"),
    "AuthorizeSecurityGroupEgress": ("GroupId", "IpPermissions"),
    "RevokeSecurityGroupEgress": ("GroupId",),
}
